"""Finds near duplicates: pairs of texts whose vectors have almost the same direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR_COSINE = 0.94
"""Cosine of two vectors of bort-nano from which texts count as near duplicates."""
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class NearPair:
    """Two texts that are nearly the same.

    Attributes:
        later: Row of the later one.
        earlier: Row of the one that it is nearest to.
        cosine: Cosine of their vectors; for pairs of texts the smaller of both.
    """

    later: int
    earlier: int
    cosine: float


def near_duplicates(
    vectors: Sequence[NDArray[Any]], texts: Sequence[object], *, least_cosine: float = NEAR_COSINE
) -> list[NearPair]:
    """Find for each text the nearest earlier one that is not equal to it, if it is near enough; the nearest first.

    All pairs are compared, a block of rows at a time: memory grows with the number of texts, time with its square.

    Args:
        vectors: Of length 1; for pairs, one array for the first texts and one for the second. *Shape:* (texts, D) each.
        texts: Keys that are equal for equal texts (see `bort.data.tables.checks.fold_text`), which are duplicates, not
            near duplicates.
        least_cosine: Smallest cosine of near duplicates.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.99, 0.141], [0.0, 1.0]])
        >>> [(pair.later, pair.earlier) for pair in near_duplicates([vectors], ["a", "b", "c"])]
        [(1, 0)]
    """
    places: dict[object, int] = {}
    same = np.array([places.setdefault(text, len(places)) for text in texts], np.int64)
    return sorted(_pairs(vectors, same, least_cosine), key=lambda pair: (-pair.cosine, pair.later))


def _pairs(vectors: Sequence[NDArray[Any]], same: NDArray[np.int64], least: float) -> Iterator[NearPair]:
    for start in range(0, len(same), _BLOCK_ROWS):
        end = min(start + _BLOCK_ROWS, len(same))
        cosines = np.minimum.reduce([x[start:end] @ x[:end].T for x in vectors])  # (rows, earlier rows)
        rows = np.arange(start, end)[:, None]
        cosines[(np.arange(end) >= rows) | (same[:end] == same[start:end, None])] = -1.0
        nearest = cosines.argmax(1)
        for row in np.flatnonzero(cosines[np.arange(end - start), nearest] >= least):
            found = int(nearest[row])
            yield NearPair(start + int(row), found, float(cosines[row, found]))
