"""A text corpus as token ids: tokenised once (`bort.data.corpus.build`), memory-mapped, with its document boundaries.

The folder holds `corpus.json` and, for each of `train` and `valid`, numbered shards: the concatenated ids
(`train-00000.bin`, uint16 if the vocabulary allows) and the start of each document in the shard, counted from the
start of the part (`train-00000.starts.bin`, int64). Every document ends with `</s>` and may continue in the next shard.
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
"""Token ids of a corpus, in memory or in files."""


@dataclass(frozen=True)
class CorpusInfo:
    """The content of `corpus.json`.

    Args:
        dtype: Type of the ids.
        vocab_size: Entries of the tokenizer.
        tokenizer_sha256: Fingerprint of the tokenizer.
        valid_share: Requested share of held-out documents.
        train_tokens: Number of training tokens.
        valid_tokens: Number of held-out tokens.
        train_documents: Number of documents that start in the training part.
        valid_documents: Number of documents that start in the held-out part.
        shards: Tokens and documents of each shard, by part.
        sources: Name and tokens of each source; for a file also its size, modification time and digest.
        format: Version of the folder's layout.
        bort: Version of this package that wrote the folder.
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
    """An open corpus; only accessed data is loaded into memory."""

    path: Path
    info: CorpusInfo

    def tokens(self, part: Part) -> Sharded:
        """Return all ids of a part. *Shape:* (tokens,)."""
        return part_tokens(self.path, part, self.info.shards[part], self.info.dtype)

    def starts(self, part: Part) -> Sharded:
        """Return the index of the first token of each document. *Shape:* (documents,)."""
        return part_starts(self.path, part, self.info.shards[part])


def shard_file(folder: Path, part: Part, number: int, suffix: str = ".bin") -> Path:
    """Return the path of a shard's ids or, with suffix `.starts.bin`, of its document starts."""
    return folder / f"{part}-{number:05d}{suffix}"


def part_tokens(folder: Path, part: Part, shards: list[list[int]], dtype: str) -> Sharded:
    """Return the ids of a part's shards."""
    files = [shard_file(folder, part, number) for number in range(len(shards))]
    return Sharded(files, [tokens for tokens, _ in shards], dtype)


def part_starts(folder: Path, part: Part, shards: list[list[int]]) -> Sharded:
    """Return the document starts of a part's shards."""
    files = [shard_file(folder, part, number, ".starts.bin") for number in range(len(shards))]
    return Sharded(files, [documents for _, documents in shards], "int64")


def open_corpus(path: str | Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Corpus:
    """Open a corpus folder.

    Raises:
        BortError: The folder is not a corpus, is incomplete, or was written with another tokenizer.
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
    """Hash everything that determines how the tokenizer encodes text (its vocabulary, merges, normaliser)."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def unigram_frequencies(tokens: Tokens, vocab_size: int) -> NDArray[np.float64]:
    """Compute the relative frequency of each id with add-one smoothing. *Shape:* (tokens,) -> (vocab,)."""
    counts = np.ones(vocab_size, np.int64)
    for start in range(0, len(tokens), _COUNTED_AT_ONCE):  # counting takes 8 bytes per token
        counts += np.bincount(tokens[start : start + _COUNTED_AT_ONCE], minlength=vocab_size)[:vocab_size]
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
