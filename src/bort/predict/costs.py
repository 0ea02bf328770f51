"""Costs of batches: milliseconds by rows and length, measured at the export, or a rule of thumb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 64
MOST_TOKENS = 512
"""Of a batch: small batches stay in the processor's caches. A longer row is a batch of its own."""
_PARALLEL_SHARE = 0.8
"""Share of a batch's work that parallelises, assumed where costs were measured with one thread."""
_MOST_POINTS = 64
_LONGEST_USUAL = 8192
Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class BatchCosts:
    """Milliseconds of batches at some numbers of rows and some lengths; values in between are interpolated.

    Args:
        rows: Numbers of rows, ascending from 1.
        lengths: Lengths in tokens, ascending.
        threads: Number of threads that computed `shared`.
        alone: Times of a batch that one thread computes. *Shape:* (rows, lengths).
        shared: Times of a batch that all threads compute together. *Shape:* (rows, lengths).
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    threads: int
    alone: Table
    shared: Table

    def table(self, threads: int = 1) -> NDArray[np.float64]:
        """Milliseconds of every batch, if `threads` threads compute it together.

        Numbers of threads that were not measured follow Amdahl's law, with the parallel share measured at each point.

        Args:
            threads: Number of threads, at least 1.

        Returns:
            *Shape:* (`MOST_ROWS` + 1, longest length + 1), by number of rows and length.
        """
        return _table(self, threads)

    @classmethod
    def of(cls, described: Any) -> BatchCosts | None:
        """Parse the costs of a manifest; None if they do not have the form that `dataclasses.asdict` writes.

        Args:
            described: Any JSON value.
        """
        names = ("rows", "lengths", "threads", "alone", "shared")
        if not isinstance(described, dict) or {*described} != {*names}:
            return None
        rows, lengths, threads, *tables = (described[name] for name in names)
        for axis in (rows, lengths):
            whole = isinstance(axis, list) and 0 < len(axis) <= _MOST_POINTS and all(type(n) is int for n in axis)
            if not whole or axis[0] < 1 or any(a >= b for a, b in pairwise(axis)):
                return None
        if type(threads) is not int or threads < 1 or lengths[-1] > 2**16:
            return None
        for table in tables:
            if not isinstance(table, list) or len(table) != len(rows):
                return None
            for row in table:
                numbers = isinstance(row, list) and all(type(ms) in (int, float) and 0 < ms < 1e9 for ms in row)
                if not numbers or len(row) != len(lengths):
                    return None
        alone, shared = (tuple(map(tuple, table)) for table in tables)
        return cls(tuple(rows), tuple(lengths), threads, alone, shared)


@lru_cache(maxsize=32)
def _table(costs: BatchCosts, threads: int) -> NDArray[np.float64]:
    alone = np.array(costs.alone)
    if costs.threads > 1:
        speedup = np.clip(alone / np.array(costs.shared), 1, costs.threads)
        share = (1 - 1 / speedup) / (1 - 1 / costs.threads)
    else:
        share = np.full_like(alone, _PARALLEL_SHARE)
    points = alone * (1 - share + share / threads)
    by_row, by_length = _weights(costs.rows, MOST_ROWS), _weights(costs.lengths, costs.lengths[-1])
    found: NDArray[np.float64] = by_row.T @ points @ by_length
    # Beyond the measured numbers of rows, the cost grows in proportion to the rows.
    last = costs.rows[-1]
    found[last:] *= (np.arange(last, MOST_ROWS + 1) / last)[:, None]
    found.setflags(write=False)
    return found


def _weights(points: Sequence[int], last: int) -> NDArray[np.float64]:
    """Interpolation weights of the measured points at each integer from 0 to `last`. *Shape:* (points, `last` + 1)."""
    places = np.arange(last + 1)
    return np.array([np.interp(places, points, unit) for unit in np.eye(len(points))])


def usual_costs(longest: int) -> BatchCosts:
    """Rule of thumb, without a unit: a batch has a fixed cost of 8 tokens, and attention grows quadratically.

    Args:
        longest: Maximum number of tokens of an input. The table ends at 8,192 of them, as its memory grows
            quadratically; longer inputs cost the same as the longest.
    """
    longest = min(longest, _LONGEST_USUAL)
    rows, lengths = (1, MOST_ROWS), tuple(sorted({*range(8, longest, 32), longest}))
    alone = tuple(tuple(8 + b * length * (1 + length / 1024) for length in lengths) for b in rows)
    return BatchCosts(rows, lengths, 1, alone, alone)
