"""Arrays stored in several files and read as one; only accessed data is loaded."""

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
    """One read-only array, memory-mapped from consecutive files.

    Args:
        files: Raw files that hold nothing but items.
        sizes: Items per file.
        dtype: Type of the items.
    """

    def __init__(self, files: Sequence[Path], sizes: Sequence[int], dtype: str) -> None:
        self.files, self.dtype = list(files), np.dtype(dtype)
        self.ends = np.cumsum([0, *sizes], dtype=np.int64)
        self._maps: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, span: slice) -> NDArray[Any]:
        """Return a contiguous slice; a copy if it spans several files. *Shape:* (stop - start,)."""
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
        """Return all items, in memory."""
        return np.array(self[:], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the maps; another process maps the files itself."""
        return self.__dict__ | {"_maps": OrderedDict()}

    def blocks(self, size: int = _BLOCK) -> Iterator[NDArray[Any]]:
        """Yield all items, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def digest(self) -> str:
        """Hash the items, independently of how they are split into files."""
        known = hashlib.sha256()
        for block in self.blocks():
            known.update(block.tobytes())
        return known.hexdigest()

    def _map(self, shard: int) -> NDArray[Any]:
        """Map a file; only the most recently used stay mapped, since a process may open only a few files."""
        if shard not in self._maps:
            while len(self._maps) >= _MAPPED_AT_ONCE:
                self._maps.popitem(last=False)
            size = int(self.ends[shard + 1] - self.ends[shard])
            self._maps[shard] = np.memmap(self.files[shard], dtype=self.dtype, mode="r", shape=(size,))
        self._maps.move_to_end(shard)
        return self._maps[shard]
