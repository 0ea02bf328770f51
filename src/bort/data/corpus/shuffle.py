"""Random orders that depend only on a seed and an epoch, so that any number of processes agree on them."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

UNIFORM = 1 << 22
"""Up to this many rows, every order is equally likely, at 8 bytes of memory per row."""
_SEGMENT, _POOL = 1 << 10, 1 << 10


class PooledOrder:
    """A random order of more rows than a full permutation in memory should hold.

    Neighbouring rows form a segment. Each pool takes segments at random from the whole corpus, and the rows of a pool
    are shuffled. So each row comes once, among rows from everywhere, and only one pool at a time is read from disk: a
    bounded part of the corpus, in sequential runs that the disk can read ahead.

    Args:
        seed: Random seed, combined with the epoch.
        epoch: Number of the epoch.
        rows: Number of rows.
        segment: Rows per segment.
        pool: Segments per pool.
    """

    def __init__(self, seed: int, epoch: int, rows: int, *, segment: int = _SEGMENT, pool: int = _POOL) -> None:
        self.seed, self.epoch, self.rows, self.segment = seed, epoch, rows, segment
        segments = np.random.default_rng([seed, 0, epoch]).permutation(-(-rows // segment))
        self._pools = [segments[start : start + pool] for start in range(0, len(segments), pool)]
        self._starts = np.cumsum([0, *(self._sizes(pool).sum() for pool in self._pools)])
        self._known: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    def __len__(self) -> int:
        return self.rows

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> NDArray[np.int64]: ...
    def __getitem__(self, place: int | slice) -> int | NDArray[np.int64]:
        """Return the row at a position, or the rows of a contiguous slice."""
        if isinstance(place, slice):
            start, stop, _ = place.indices(self.rows)
            pools = range(self._pool_of(start), self._pool_of(stop - 1) + 1) if start < stop else range(0)
            found = [self._shuffled(pool) for pool in pools]
            whole = np.concatenate(found) if found else np.empty(0, np.int64)
            return whole[start - int(self._starts[pools.start]) :][: stop - start] if found else whole
        pool = self._pool_of(place)
        return int(self._shuffled(pool)[place - int(self._starts[pool])])

    def _sizes(self, segments: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.minimum(self.segment, self.rows - segments * self.segment)

    def _pool_of(self, place: int) -> int:
        return int(np.searchsorted(self._starts, place, side="right")) - 1

    def _shuffled(self, pool: int) -> NDArray[np.int64]:
        if pool not in self._known:
            if len(self._known) > 1:
                self._known.popitem(last=False)
            segments = self._pools[pool]
            runs = zip(segments * self.segment, self._sizes(segments), strict=True)
            rows = np.concatenate([np.arange(start, start + size) for start, size in runs])
            self._known[pool] = np.random.default_rng([self.seed, 3, self.epoch, pool]).permutation(rows)
        return self._known[pool]


Order = NDArray[np.int64] | PooledOrder


def order(seed: int, epoch: int, rows: int) -> Order:
    """Return the numbers below `rows` in a random order that depends only on the arguments.

    Args:
        seed: Random seed.
        epoch: Number of the epoch; each has its own order.
        rows: Number of rows; above `UNIFORM` the order is pooled and takes little memory.
    """
    return permutation(seed, epoch, rows) if rows <= UNIFORM else PooledOrder(seed, epoch, rows)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """Return a uniformly random permutation, in memory, that depends only on the arguments."""
    return np.random.default_rng([seed, 0, epoch]).permutation(rows)
