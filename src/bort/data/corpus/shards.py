"""Arrays in several files that read as one: nothing is loaded but what is asked for."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAPPED_AT_ONCE = 256
_BLOCK = 1 << 22


class Sharded:
    """Items of one type, memory-mapped file after file, as one read-only array.

    Args:
        files: Each holds its items one after another and nothing else.
        sizes: Items of each.
        dtype: Of the items.
    """

    def __init__(self, files: Sequence[Path], sizes: Sequence[int], dtype: str) -> None:
        self.files, self.dtype = list(files), np.dtype(dtype)
        self.ends = np.cumsum([0, *sizes], dtype=np.int64)
        self._maps: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, span: slice) -> NDArray[Any]:
        """A run of items; a copy where it crosses from one file to the next. *Shape:* (stop - start,)."""
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise IndexError("takes runs of neighbouring items")
        parts = []
        shard = int(np.searchsorted(self.ends, start, side="right")) - 1
        while start < stop:
            first, last = (int(end) for end in self.ends[shard : shard + 2])
            if start < last:
                parts.append(self._map(shard)[start - first : stop - first])
                start = min(stop, last)
            shard += 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, in memory."""
        return np.array(self[:], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which maps the files itself."""
        return self.__dict__ | {"_maps": OrderedDict()}

    def blocks(self, size: int = _BLOCK) -> Iterator[NDArray[Any]]:
        """All items, at most so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def digest(self) -> str:
        """A hash of the items, however they are spread over files."""
        known = hashlib.sha256()
        for block in self.blocks():
            known.update(block.tobytes())
        return known.hexdigest()

    def _map(self, shard: int) -> NDArray[Any]:
        """A file, mapped; those used last stay so, since each map takes one of the few files a process may open."""
        if shard not in self._maps:
            while len(self._maps) >= _MAPPED_AT_ONCE:
                self._maps.popitem(last=False)
            size = int(self.ends[shard + 1] - self.ends[shard])
            self._maps[shard] = np.memmap(self.files[shard], dtype=self.dtype, mode="r", shape=(size,))
        self._maps.move_to_end(shard)
        return self._maps[shard]
