"""From the ids of a byte-level BPE back to text, with the characters that each id stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level BPE's entries stands for (Radford et al. 2019).

    Printable bytes of Latin-1 stand for themselves; the other 68 are counted on from 256.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


@dataclass(frozen=True)
class ByteText:
    """The bytes of each id of a vocabulary; special tokens have none."""

    pieces: list[bytes]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> ByteText:
        """The pieces of a tokenizer.

        Raises:
            BortError: It is no byte-level BPE.
        """
        alphabet, special = byte_alphabet(), set(tokenizer.all_special_ids)
        pieces = []
        for number, entry in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
            if number in special:
                pieces.append(b"")
                continue
            try:
                pieces.append(bytes(alphabet[character] for character in entry))
            except KeyError:
                raise BortError("needs a byte-level BPE, in the manner of RoBERTa's", value=entry) from None
        return cls(pieces)

    def decode(self, ids: NDArray[np.integer]) -> tuple[str, NDArray[np.int64]]:
        """The text of some ids, and where in it each id's characters are.

        A character whose bytes are cut off at either end becomes U+FFFD; one that several ids share belongs to all of
        them.

        Args:
            ids: *Shape:* (tokens,).

        Returns:
            The text, and the first character of each id and the one after its last. *Shape:* (tokens, 2).
        """
        pieces = [self.pieces[number] for number in ids]
        raw = b"".join(pieces)
        text = raw.decode("utf-8", errors="replace")
        if len(text) == len(raw):  # ASCII: a byte is a character
            stops = np.cumsum([len(piece) for piece in pieces])
            return text, np.stack([stops - [len(piece) for piece in pieces], stops], axis=1)
        character_of = np.repeat(np.arange(len(text)), [_width(character) for character in text])
        if len(character_of) != len(raw):  # a broken character may stand for one to three bytes
            character_of = _slowly(raw)
        spans = np.zeros((len(pieces), 2), dtype=np.int64)
        place = 0
        for number, piece in enumerate(pieces):
            last = place + len(piece)
            spans[number] = (character_of[place], character_of[last - 1] + 1) if piece else (spans[number - 1, 1],) * 2
            place = last
        return text, spans


def _width(character: str) -> int:
    return len(character.encode("utf-8"))


def _slowly(raw: bytes) -> NDArray[np.int64]:
    """The character of each byte, where some do not decode: prefix by prefix. *Shape:* (bytes,)."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    made, places = 0, []
    for byte in raw:
        places.append(made)
        made += len(decoder.decode(bytes([byte])))
    return np.array(places, dtype=np.int64)
