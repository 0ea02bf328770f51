"""Tokenizers: any, as described by its folder, and byte-level BPE with Bort's pairs, `<s> A </s> B </s>`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, lines_of
from bort.model.checkpoints import unpacked

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.processors import PostProcessor
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
_ENTRIES_AT_MOST = 10_000_000
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a folder, an embedded model or a hub name, exactly as `tokenizer.json` describes it.

    transformers rebuilds some classes from the vocabulary alone, and so loses the folder's template of pairs, its
    normaliser and its added tokens; this function keeps them. Only a folder with nothing but RoBERTa's `vocab.json` and
    `merges.txt` gets Bort's pairs with one separator.

    Raises:
        BortError: There is no tokenizer, or its files cannot be read.

    Example:
        >>> from bort import load_tokenizer
        >>> load_tokenizer("bort-nano").tokenize("Where is it?")
        ['where', 'is', 'it', '?']
    """
    folder = Path(unpacked(source))
    described = ("tokenizer.json", "tokenizer_config.json", "config.json")
    bare = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    if bare and not any((folder / name).is_file() for name in described):
        return wrap(from_roberta_files(folder / "vocab.json", folder / "merges.txt"))
    if folder.is_dir() and not bare and not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        if not any(folder.glob("*.model")):
            raise BortError("holds no tokenizer (tokenizer.json, or vocab.json with merges.txt)", file=folder)
        if find_spec("sentencepiece") is None:
            raise BortError("has a SentencePiece tokenizer, which needs: pip install sentencepiece", file=folder)
    if not folder.exists() and ("/" not in str(source) or str(source).startswith((".", "/"))):
        raise BortError("no such folder", file=folder)
    _check_ids(folder)
    from transformers import AutoTokenizer

    name = str(folder) if folder.is_dir() else str(source)
    try:
        with panics_are_errors():
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            if not tokenizer.is_fast:
                return tokenizer
            tokenizer = _as_the_file_says(tokenizer, name)
            try_out(tokenizer.backend_tokenizer)
            tokenizer("")  # a setting that is not a number fails here
        return tokenizer
    except Exception as error:  # OSError, ValueError, KeyError or the library's own, depending on the damage
        first = lines_of(error)[0]
        raise BortError(f"the tokenizer cannot be loaded: {first}", file=str(source)) from None


def require_special_tokens(tokenizer: PreTrainedTokenizerFast, source: str, *, masks: bool) -> None:
    """Refuse a tokenizer that lacks special tokens that pre-training needs.

    Args:
        tokenizer: The tokenizer.
        source: Its name, for the error.
        masks: Whether tokens will be masked.

    Raises:
        BortError: It has no first, separating, padding or mask token.
    """
    needed = ("cls_token", "sep_token", "pad_token", *(["mask_token"] if masks else []))
    if lacking := [name for name in needed if getattr(tokenizer, f"{name}_id") is None]:
        raise BortError(f"must have a {', '.join(lacking)}", setting="tokenizer", value=source)


def _check_ids(folder: Path) -> None:
    """Refuse absurdly large ids: the library iterates over all ids up to the largest, and stores each gap."""
    for file in (folder / "tokenizer.json", folder / "vocab.json"):
        if not file.is_file() or not re.search(rb":\s*\d{8}", content := file.read_bytes()):
            continue
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):  # reported later
            described = json.loads(content)
            entries = described["model"]["vocab"] if file.name == "tokenizer.json" else described
            largest = max(number for number in entries.values() if type(number) is int)
            if largest >= _ENTRIES_AT_MOST:
                rule = f"the tokenizer cannot be loaded: its ids must be below {_ENTRIES_AT_MOST:,}"
                raise BortError(rule, file=file, value=largest)


@contextlib.contextmanager
def panics_are_errors() -> Iterator[None]:
    """Turn a Rust panic of tokenizers into a ValueError: its own class cannot be imported and is not an `Exception`.

    Raises:
        ValueError: The code in the block panicked.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from None


def try_out(backend: Tokenizer) -> None:
    """Make a tokenizer with a damaged file fail now: its template is only read when a text is tokenized.

    Raises:
        ValueError: It cannot tokenize a text or a pair.
    """
    with panics_are_errors():
        backend.encode("\uffff")  # which is in no vocabulary
        backend.encode("", "")


def _as_the_file_says(tokenizer: PreTrainedTokenizerFast, name: str) -> PreTrainedTokenizerFast:
    """Rebuild a tokenizer from `tokenizer.json`, if there is one, with the same special tokens and settings."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from transformers.utils import cached_file

    file = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if file is None:
        return with_backend(tokenizer, tokenizer.backend_tokenizer)
    backend, settings = Tokenizer.from_file(file), _settings(name)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for _, token in sorted(tokenizer.added_tokens_decoder.items()):
        if token.content not in known:
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    theirs = tokenizer.backend_tokenizer.normalizer
    says_case = {"do_lower_case", "strip_accents", "tokenize_chinese_chars"} & settings.keys()
    if says_case and all(isinstance(one, normalizers.BertNormalizer) for one in (theirs, backend.normalizer)):
        backend.normalizer = theirs
    if "add_prefix_space" in settings and all(
        isinstance(one, pre_tokenizers.ByteLevel)
        for one in (tokenizer.backend_tokenizer.pre_tokenizer, backend.pre_tokenizer)
    ):
        backend.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    if backend.truncation is not None and "truncation_side" not in settings:
        tokenizer.truncation_side = backend.truncation["direction"].lower()
    return with_backend(tokenizer, backend)


def _settings(name: str) -> dict[str, object]:
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    return dict(get_tokenizer_config(name))


def with_backend(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap a backend in the generic class, which is saved and loaded without loss, with a tokenizer's settings."""
    from transformers import PreTrainedTokenizerFast

    backend.no_truncation()
    backend.no_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=tokenizer.name_or_path,
        model_max_length=tokenizer.model_max_length,
        truncation_side=tokenizer.truncation_side,
        padding_side=tokenizer.padding_side,
        model_input_names=list(tokenizer.model_input_names),
        split_special_tokens=bool(tokenizer.split_special_tokens),
        **tokenizer.special_tokens_map,
    )


def with_bort_pairs(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Make a RoBERTa-style tokenizer put one separator between the texts of a pair, as Bort does.

    This is for models that are made here, whose folder then records it; any other tokenizer is returned unchanged.
    """
    vocabulary = tokenizer.get_vocab()
    if not tokenizer.is_fast or tokenizer.sep_token != "</s>" or not {"<s>", "</s>"} <= vocabulary.keys():
        return tokenizer
    if tokenizer.backend_tokenizer.encode("", "").tokens.count("</s>") == 2:  # one between the texts, one at the end
        return tokenizer
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = _bort_template(backend)
    return with_backend(tokenizer, backend)


def _bort_template(backend: Tokenizer) -> PostProcessor:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("<s>", "</s>")],
    )


def from_roberta_files(vocab: Path, merges: Path) -> Tokenizer:
    """Build a byte-level BPE from RoBERTa's two files.

    Raises:
        BortError: Broken JSON, ids with gaps, a merge that is not a pair of known symbols, or a special token that is
            missing.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    try:
        entries = json.loads(vocab.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give a byte-level BPE Bort's template and the interface of `transformers`.

    Single texts become `<s> A </s>`, pairs `<s> A </s> B </s>`. Padding is on the right. `<mask>` absorbs the space
    before it, as in RoBERTa.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = _bort_template(tokenizer)
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token != "<mask>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        truncation_side="right",
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        **{**_TOKEN_NAMES, "mask_token": AddedToken("<mask>", lstrip=True, special=True)},
    )


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = False, min_frequency: int = 2
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE; the same texts give the same vocabulary.

    Args:
        texts: Lines of text; read lazily.
        vocab_size: Number of entries, including the 256 bytes and 5 special tokens.
        lowercase: Lowercase first, so that a small vocabulary goes further.
        min_frequency: Minimum number of occurrences of a merge.

    Raises:
        BortError: The vocabulary is too small for the bytes.
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
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer=trainer)
    return wrap(tokenizer)


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text.strip())


def byte_alphabet() -> dict[str, int]:
    """Map each character in the entries of a byte-level BPE to its byte (Radford et al. 2019).

    Printable bytes of Latin-1 are represented by themselves, the other 68 by the characters from 256 on.
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
        """Take the bytes from a tokenizer's vocabulary.

        Raises:
            BortError: The tokenizer is not a byte-level BPE.
        """
        rule = "needs a byte-level BPE, in the manner of RoBERTa's"
        # The letters of other models' entries are in the alphabet, too.
        if (kind := type(tokenizer.backend_tokenizer.model).__name__) != "BPE":
            raise BortError(rule, value=kind)
        alphabet, special = byte_alphabet(), set(tokenizer.all_special_ids)
        pieces = []
        for number, entry in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
            if number in special:
                pieces.append(b"")
                continue
            try:
                pieces.append(bytes(alphabet[character] for character in entry))
            except KeyError:
                raise BortError(rule, value=entry) from None
        return cls(pieces)

    def decode(self, ids: NDArray[np.integer]) -> tuple[str, NDArray[np.int64]]:
        """Decode ids into text, with the character span of each id.

        A character whose bytes are cut off at either end becomes U+FFFD; one that several ids share belongs to all of
        them.

        Args:
            ids: *Shape:* (tokens,).

        Returns:
            The text, and the start and end (exclusive) of each id's characters. *Shape:* (tokens, 2).
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
    """Return each byte's character index if some bytes do not decode, by incremental decoding. *Shape:* (bytes,)."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    made, places = 0, []
    for byte in raw:
        places.append(made)
        made += len(decoder.decode(bytes([byte])))
    return np.array(places, dtype=np.int64)
