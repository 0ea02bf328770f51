"""Metrics of several labels per text: F1, exact match, mean average precision, each with a bootstrap interval.

As in `bort.tasks.metrics`, each metric is one formula over how often each row occurs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.metrics import Floats, Samples, Score, joined, ratio, resampled_rows, scores_of_samples


def multilabel_scores(
    targets: NDArray[Any], decided: NDArray[Any], scores: NDArray[Any], *, resamples: int = 1000
) -> dict[str, Score]:
    """Score sets of labels.

    Args:
        targets: 1 where the row has the label, else 0. *Shape:* (rows, labels).
        decided: 1 where the model predicts it, else 0. *Shape:* (rows, labels).
        scores: Scores that rank the rows for each label; greater is more likely. *Shape:* (rows, labels).
        resamples: Resamples of the bootstrap; with 0 the interval is the value alone.

    Returns:
        Each from 0 to 1. `f1_micro` counts all labels together; `f1_macro` is the mean over the labels that occur in
        the targets or the answers. `exact_match` is the share of rows with all right labels and no others.
        `mean_average_precision` is the mean, over the labels that occur in the targets, of the area under their
        precision-recall steps (average precision); it does not depend on thresholds. A mean over no label is 0.

    Raises:
        ValueError: There are no rows, or the shapes differ.
    """
    truth, guess, ranked = (np.asarray(values, dtype=np.float64) for values in (targets, decided, scores))
    if truth.ndim != 2 or not truth.size or not truth.shape == guess.shape == ranked.shape:
        raise ValueError("targets, answers and scores must have one shape, (rows, labels), and not be empty")
    steps = [_Steps(truth[:, label], ranked[:, label]) for label in range(truth.shape[1])]

    def metrics(counts: Floats) -> Samples:
        return _f1(truth, guess, counts) | {"mean_average_precision": _mean_over(steps, counts)}

    values = metrics(np.ones((1, len(truth))))
    samples = joined([metrics(counts) for counts in resampled_rows(len(truth), seed=0, resamples=resamples)])
    return scores_of_samples(values, samples)


def _f1(truth: Floats, guess: Floats, counts: Floats) -> Samples:
    """Metrics of the answers. *Shape:* (rows, labels) twice, counts (size, rows) -> (size,) each."""
    right, positive, given = counts @ (truth * guess), counts @ truth, counts @ guess  # (size, labels)
    occurring = positive + given
    exact = (truth == guess).all(-1)
    return {
        "f1_micro": ratio(2 * right.sum(-1), occurring.sum(-1)),
        "f1_macro": ratio(ratio(2 * right, occurring).sum(-1), (occurring > 0).sum(-1)),
        "exact_match": counts @ exact / counts.sum(-1),
    }


class _Steps:
    """The precision-recall steps of one label: rows from most to least likely, those of equal scores in one step."""

    def __init__(self, truth: Floats, scores: Floats) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._ends = np.append(np.flatnonzero(ordered[:-1] != ordered[1:]), len(ordered) - 1)
        self._truth = truth[self._order]

    def average_precision(self, counts: Floats) -> tuple[Floats, Floats]:
        """The average precision, and 1 where any row has the label, else 0. *Shape:* (size, rows) -> (size,) each."""
        weights = counts[:, self._order]
        given = np.cumsum(weights, axis=1)[:, self._ends]
        right = np.cumsum(weights * self._truth, axis=1)[:, self._ends]
        precision = ratio(right, given)
        found = (np.diff(right, axis=1, prepend=0.0) * precision).sum(-1)
        return ratio(found, right[:, -1]), (right[:, -1] > 0).astype(np.float64)


def _mean_over(steps: list[_Steps], counts: Floats) -> Floats:
    found = [each.average_precision(counts) for each in steps]
    return ratio(sum(value for value, _ in found), sum(occurs for _, occurs in found))
