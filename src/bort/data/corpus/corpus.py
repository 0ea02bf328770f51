"""A text corpus as token ids: tokenised once (`bort.data.corpus.build`), memory-mapped, with its document boundaries.

The folder holds `corpus.json`, and for each of `train` and `valid` numbered shards: the ids one after another
(`train-00000.bin`, uint16 where the vocabulary allows), and where in the whole part the documents begin that begin
there (`train-00000.starts.bin`, int64). Every document ends with `</s>`; one may go on in the next shard.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.shards import Sharded
from bort.errors import BortError
from bort.formats import check_format

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Part = Literal["train", "valid"]
PARTS: tuple[Part, Part] = ("train", "valid")
FORMAT = 3
_COUNTED_AT_ONCE = 1 << 22

Tokens = NDArray[np.unsignedinteger[Any]] | Sharded
"""Ids of a corpus, in memory or in files."""


@dataclass(frozen=True)
class CorpusInfo:
    """What a corpus folder says of itself.

    Args:
        dtype: Of ids.
        vocab_size: Entries of the tokenizer.
        tokenizer_sha256: Its fingerprint.
        valid_share: Part of the documents that was to be held out.
        train_tokens: Ids to train on.
        valid_tokens: Ids held out.
        train_documents: Documents that begin among the former.
        valid_documents: Documents that begin among the latter.
        shards: Tokens and documents of each shard, by part.
        sources: Of each its name and tokens; of a file also its size, time and digest.
        format: Number of the folder's layout.
        bort: Version of this package that wrote it.
    """

    dtype: str
    vocab_size: int
    tokenizer_sha256: str
    valid_share: float
    train_tokens: int
    valid_tokens: int
    train_documents: int
    valid_documents: int
    shards: dict[str, list[list[int]]]
    sources: list[dict[str, Any]]
    format: int = FORMAT
    bort: str = ""


@dataclass(frozen=True)
class Corpus:
    """An opened corpus; nothing of it is in memory but what is asked for."""

    path: Path
    info: CorpusInfo

    def tokens(self, part: Part) -> Sharded:
        """All ids of a part. *Shape:* (tokens,)."""
        return part_tokens(self.path, part, self.info.shards[part], self.info.dtype)

    def starts(self, part: Part) -> Sharded:
        """Index of the first token of each document. *Shape:* (documents,)."""
        return part_starts(self.path, part, self.info.shards[part])


def shard_file(folder: Path, part: Part, number: int, suffix: str = ".bin") -> Path:
    """Where a shard's ids are, or with `.starts.bin` its documents' beginnings."""
    return folder / f"{part}-{number:05d}{suffix}"


def part_tokens(folder: Path, part: Part, shards: list[list[int]], dtype: str) -> Sharded:
    """The ids of some shards."""
    files = [shard_file(folder, part, number) for number in range(len(shards))]
    return Sharded(files, [tokens for tokens, _ in shards], dtype)


def part_starts(folder: Path, part: Part, shards: list[list[int]]) -> Sharded:
    """Where the documents of some shards begin."""
    files = [shard_file(folder, part, number, ".starts.bin") for number in range(len(shards))]
    return Sharded(files, [documents for _, documents in shards], "int64")


def open_corpus(path: str | Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Corpus:
    """Open a corpus folder.

    Raises:
        BortError: It is not one, it is incomplete, or another tokenizer wrote it.
    """
    path = Path(path)
    file = path / "corpus.json"
    try:
        fields = json.loads(file.read_text("utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("must hold one JSON object")
        check_format(fields, FORMAT, file, "remove it, or name another --corpus-cache")
        info = CorpusInfo(**fields)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BortError(f"is not a tokenised corpus: {error}", file=file) from None
    if info.dtype not in ("uint16", "uint32"):
        raise BortError("must be uint16 or uint32", file=file, column="dtype", value=info.dtype)
    for part in PARTS:
        _check_part(path, part, info)
    if tokenizer is not None and info.tokenizer_sha256 != fingerprint(tokenizer):
        raise BortError("was tokenised with another tokenizer; remove it, or name another --corpus-cache", file=path)
    return Corpus(path, info)


def _check_part(path: Path, part: Part, info: CorpusInfo) -> None:
    file = path / "corpus.json"
    sums = [getattr(info, f"{part}_tokens"), getattr(info, f"{part}_documents")]
    shards = info.shards.get(part) if isinstance(info.shards, dict) else None
    if not all(type(number) is int for number in sums):
        raise BortError("must give numbers of tokens and documents", file=file, value=sums)
    if not isinstance(shards, list) or not all(
        isinstance(shard, list) and len(shard) == 2 and all(type(n) is int and n >= 0 for n in shard)
        for shard in shards
    ):
        raise BortError("must give the tokens and documents of each shard", file=file, column=part, value=shards)
    if [sum(shard[0] for shard in shards), sum(shard[1] for shard in shards)] != sums:
        raise BortError("must give shards that add up to the tokens and documents", file=file, column=part, value=sums)
    for number, (tokens, documents) in enumerate(shards):
        binary, starts = shard_file(path, part, number), shard_file(path, part, number, ".starts.bin")
        if _size(binary) != tokens * np.dtype(info.dtype).itemsize:
            raise BortError(f"must hold {tokens} ids of {info.dtype}", file=binary)
        if _size(starts) != documents * 8:
            raise BortError(f"must hold the starts of {documents} documents", file=starts)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of what the tokenizer does to text (its vocabulary, merges, normaliser)."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def unigram_frequencies(tokens: Tokens, vocab_size: int) -> NDArray[np.float64]:
    """Share of each id, one added to each count. *Shape:* (tokens,) -> (vocab,)."""
    counts = np.ones(vocab_size, np.int64)
    for start in range(0, len(tokens), _COUNTED_AT_ONCE):  # counting takes 8 bytes a token
        counts += np.bincount(tokens[start : start + _COUNTED_AT_ONCE], minlength=vocab_size)[:vocab_size]
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
