"""Decision thresholds for the labels of multi-label data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
USUAL = 0.5
_BORROWED = 2.0
"""Positive examples that each label borrows from all labels together, as few own ones would give a random threshold."""


def best_thresholds(probabilities: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """For each label, the threshold with the best F1, shrunk towards the one that is best for all labels together.

    A label's F1 is counted over its own examples and, with the weight of two positive examples, over all labels pooled.
    So a label without positive examples gets a threshold that suits the others, and one with many its own. Candidates
    are the midpoints between neighbouring probabilities; of equally good ones, the nearest to one half is taken.

    Args:
        probabilities: *Shape:* (examples, labels).
        targets: 1 where the example has the label, else 0. *Shape:* (examples, labels).

    Returns:
        *Shape:* (labels,). An example gets a label if its probability is above the threshold.

    Example:
        >>> p = np.array([[0.9, 0.2], [0.3, 0.4], [0.2, 0.1], [0.1, 0.6]])
        >>> y = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
        >>> best_thresholds(p, y).round(2).tolist()
        [0.25, 0.25]
    """
    p, y = probabilities.astype(np.float64), targets > USUAL
    everything = _Counts(p.ravel(), y.ravel())
    if not everything.positives:
        return np.full(p.shape[1], USUAL)
    at = everything.middles
    shared = _best(at, _f1(everything, at))
    found = []
    for label in range(p.shape[1]):
        own = _Counts(p[:, label], y[:, label])
        at = np.append(own.middles, shared)
        found.append(_best(at, _f1(own, at, everything, _BORROWED / everything.positives)))
    return np.array(found)


class _Counts:
    """Counts how many probabilities are above a threshold, and how many of those are right."""

    def __init__(self, p: Floats, y: NDArray[np.bool_]) -> None:
        order = np.argsort(p, kind="stable")
        self._p = p[order]
        # Number of right ones from each position on.
        self._right = np.append(np.cumsum(y[order][::-1])[::-1], 0)
        self.positives = int(y.sum())

    @property
    def middles(self) -> Floats:
        """The midpoints between each distinct probability and the next lower one, or 0."""
        distinct = np.unique(self._p)
        return np.asarray((distinct + np.append(0.0, distinct[:-1])) / 2, dtype=np.float64)

    def above(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """How many are above each threshold, and how many of those are right. *Shape:* (thresholds,) each."""
        places = np.searchsorted(self._p, thresholds, side="right")
        return (len(self._p) - places).astype(np.float64), self._right[places].astype(np.float64)


def _f1(own: _Counts, at: Floats, others: _Counts | None = None, weight: float = 0.0) -> Floats:
    given, right = own.above(at)
    positives = float(own.positives)
    if others is not None:
        more, more_right = others.above(at)
        given, right, positives = (
            given + weight * more,
            right + weight * more_right,
            positives + weight * others.positives,
        )
    return np.asarray(2 * right / (given + positives), dtype=np.float64)


def _best(thresholds: Floats, scores: Floats) -> float:
    good = thresholds[scores >= scores.max() - 1e-12]
    return float(good[np.argmin(np.abs(good - USUAL))])
