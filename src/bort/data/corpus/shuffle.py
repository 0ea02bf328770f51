"""Random orders that depend on a seed and an epoch alone, so that any number of processes agree on them."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

UNIFORM = 1 << 22
"""Up to so many rows every order is equally likely; it takes 8 bytes a row of memory."""
_SEGMENT, _POOL = 1 << 10, 1 << 10


class PooledOrder:
    """An order of more rows than memory should hold the order of.

    Neighbouring rows make a segment. Pools of segments are drawn from all over the corpus, and the rows of a pool are
    shuffled. So each row comes once, among others from everywhere, and what is read from disk at a time is a pool: a
    bounded part of the corpus, in runs that a disk reads ahead.

    Args:
        seed: Source of chance, with the epoch.
        epoch: Which.
        rows: How many.
        segment: Rows of a segment.
        pool: Segments of a pool.
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
        """The row at a place, or those of a run of places."""
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
    """The numbers below `rows` in a random order that depends on the arguments alone.

    Args:
        seed: Source of chance.
        epoch: Another one gives another order.
        rows: How many; beyond `UNIFORM` the order is pooled, and takes little memory.
    """
    return permutation(seed, epoch, rows) if rows <= UNIFORM else PooledOrder(seed, epoch, rows)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """A uniformly random order that depends on its arguments alone, in memory."""
    return np.random.default_rng([seed, 0, epoch]).permutation(rows)
