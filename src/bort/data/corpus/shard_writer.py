"""Writes one part of a corpus, one shard after another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.corpus import Part, shard_file

_SUFFIXES = (".bin", ".starts.bin")


class PartWriter:
    """Appends token ids and document starts to the shards of one part.

    Args:
        folder: The corpus folder.
        part: The part to write.
        dtype: Type of the stored ids.
        shards: Tokens and documents of each existing shard; anything beyond them in the files is truncated.
        shard_tokens: A shard with this many tokens is full.

    Raises:
        OSError: A file is missing or too short.
    """

    def __init__(self, folder: Path, part: Part, dtype: str, shards: list[list[int]], shard_tokens: int) -> None:
        self.folder, self.part, self.dtype, self.shard_tokens = folder, part, np.dtype(dtype), shard_tokens
        self.shards = [list(shard) for shard in shards]
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._cut_off()
        if self.shards:
            self._open("r+b")

    @property
    def tokens(self) -> int:
        """Number of ids written so far."""
        return sum(tokens for tokens, _ in self.shards)

    @property
    def documents(self) -> int:
        """Number of documents that start among them."""
        return sum(documents for _, documents in self.shards)

    def write(self, ids: NDArray[Any], begun: NDArray[np.int64]) -> None:
        """Append ids, and the positions among them where documents start. *Shapes:* (tokens,), (documents,)."""
        if self._files is None:
            self.shards.append([0, 0])
            self._open("w+b")
        assert self._files is not None
        before = self.tokens
        self._files[0].write(ids.astype(self.dtype, copy=False).tobytes())
        self._files[1].write((begun + before).tobytes())
        self.shards[-1][0] += len(ids)
        self.shards[-1][1] += len(begun)

    def next_shard_if_full(self) -> None:
        """Close the current shard if it is full; the next ids start a new one."""
        if self._files is not None and self.shards[-1][0] >= self.shard_tokens:
            self.close()

    def sync(self) -> None:
        """Flush everything written to disk."""
        for file in self._files or ():
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flush everything written to disk, and close the current shard."""
        self.sync()
        for file in self._files or ():
            file.close()
        self._files = None

    def shards_before(self, cut: int, starts: NDArray[np.int64]) -> list[list[int]]:
        """Return the tokens and documents of each shard if the part were cut before token `cut`."""
        kept, first, begun = [], 0, 0
        for tokens, documents in self.shards:
            if first < cut:
                kept.append([min(tokens, cut - first), int((starts[begun : begun + documents] < cut).sum())])
            first, begun = first + tokens, begun + documents
        return kept

    def _open(self, mode: str) -> None:
        ids, starts = (shard_file(self.folder, self.part, len(self.shards) - 1, suffix) for suffix in _SUFFIXES)
        self._files = (_opened(ids, mode), _opened(starts, mode))
        self.next_shard_if_full()

    def _cut_off(self) -> None:
        wanted = set()
        for number, shard in enumerate(self.shards):
            for suffix, count, size in zip(_SUFFIXES, shard, (self.dtype.itemsize, 8), strict=True):
                file = shard_file(self.folder, self.part, number, suffix)
                wanted.add(file.name)
                if file.stat().st_size < count * size:
                    raise OSError(f"{file} holds too little")
                os.truncate(file, count * size)
        for file in self.folder.glob(f"{self.part}-*"):
            if file.name not in wanted:
                file.unlink()


def _opened(path: Path, mode: str) -> BinaryIO:
    file = cast(BinaryIO, path.open(mode))
    file.seek(0, os.SEEK_END)
    return file
