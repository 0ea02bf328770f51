"""RoBERTa's byte-level BPE with Bort's pairs: `<s> A </s> B </s>`, one separator, longest-first truncation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.model.checkpoints import unpacked

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


_TOKEN_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a folder, an embedded model or a hub name.

    RoBERTa's own files (`vocab.json` and `merges.txt`) are read with Bort's one-separator pairs, and so is a saved
    RoBERTa tokenizer (`amazon/bort` on the hub names one). Any other tokenizer, a BERT WordPiece say, stays as it is.

    Raises:
        BortError: There is no tokenizer, or its files cannot be read.
    """
    folder = Path(unpacked(source))
    if folder.is_dir() and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return wrap(from_roberta_files(folder / "vocab.json", folder / "merges.txt"))
    if folder.is_dir() and not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise BortError("holds no tokenizer (tokenizer.json, or vocab.json with merges.txt)", file=folder)
    if not folder.exists() and ("/" not in str(source) or str(source).startswith((".", "/"))):
        raise BortError("no such folder", file=folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder) if folder.is_dir() else str(source), trust_remote_code=False
        )
    except Exception as error:  # the library raises OSError, ValueError, KeyError or its own, by the kind of damage
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BortError(f"the tokenizer cannot be loaded: {first}", file=str(source)) from None
    if "<s>" in tokenizer.get_vocab() and tokenizer.sep_token == "</s>":
        return wrap(tokenizer.backend_tokenizer, max_length=_positions(tokenizer))
    return tokenizer


def _positions(tokenizer: PreTrainedTokenizerFast) -> int:
    length = tokenizer.model_max_length
    known = isinstance(length, int | float) and length <= 1_000_000  # the library writes 1e30 for "not known"
    return int(length) if known else 512


def from_roberta_files(vocab: Path, merges: Path) -> Tokenizer:
    """Build the byte-level BPE of RoBERTa's two files.

    Raises:
        BortError: Broken JSON, ids with gaps, a merge that is not a pair of known symbols, or a special token that is
            missing.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    try:
        entries = json.loads(vocab.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BortError(f"must be JSON that maps tokens to ids: {error}", file=vocab) from None
    if not isinstance(entries, dict) or not all(type(number) is int for number in entries.values()):
        raise BortError("must be JSON that maps tokens to ids", file=vocab)
    if sorted(entries.values()) != list(range(len(entries))):
        raise BortError(f"the ids must be 0 to {len(entries) - 1}, each once", file=vocab)
    for token in SPECIAL_TOKENS:
        if token not in entries:
            raise BortError("the vocabulary lacks this special token", file=vocab, value=token)
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(_merge_lines(merges), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise BortError("a merge must be two symbols with a space between", file=merges, line=number, value=line)
        for symbol in (left, right, left + right):
            if symbol not in entries:
                rule = f"a merge's symbols and their sum must be in {vocab.name}, which lacks {symbol!r}"
                raise BortError(rule, file=merges, line=number, value=line)
        pairs.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=pairs, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merge_lines(merges: Path) -> list[str]:
    try:
        return merges.read_text("utf-8").split("\n")
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=merges) from None
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise BortError("must be UTF-8", file=merges, line=number) from None


def wrap(tokenizer: Tokenizer, *, max_length: int = 512) -> PreTrainedTokenizerFast:
    """Give a byte-level BPE Bort's template and the interface of `transformers`.

    Single texts become `<s> A </s>`, pairs `<s> A </s> B </s>`. Padding goes to the right. `<mask>` takes the space
    before it, as in RoBERTa.
    """
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    first, last = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", first), ("</s>", last)],
    )
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token != "<mask>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        truncation_side="right",
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        **{**_TOKEN_NAMES, "mask_token": AddedToken("<mask>", lstrip=True, special=True)},
    )


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = False, min_frequency: int = 2, progress: bool = False
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE; the same texts give the same vocabulary.

    Args:
        texts: Lines of text; taken lazily.
        vocab_size: Entries, the 256 bytes and 5 special tokens among them.
        lowercase: Fold case first: a small vocabulary goes further.
        min_frequency: A merge must occur this often.
        progress: Show the library's own progress bar.

    Raises:
        BortError: A vocabulary too small for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if vocab_size < SMALLEST_VOCABULARY:
        raise BortError(f"a byte-level vocabulary needs at least {SMALLEST_VOCABULARY} entries", value=vocab_size)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if lowercase:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # A space before the first word makes it the same token as inside a sentence.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=progress,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer=trainer)
    return wrap(tokenizer)


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text.strip())


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
