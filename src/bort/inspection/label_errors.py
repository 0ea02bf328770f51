"""Finds labels that are probably wrong, by confident learning on a linear head's out-of-fold predictions.

After Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021, section
3.1: a class is confidently predicted for an example if its probability reaches the mean probability of the class among
the examples labelled with it. An example is doubtful if the most likely such class is not its label, and is more likely
than it. (The authors' library, cleanlab, is under the AGPL, which users of an Apache-licensed package may not accept.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAR = 4.0
"""Robust standard deviations beyond which a number is doubtful: one in 16,000 for a normal distribution."""
_TO_DEVIATIONS = 1.4826
"""Ratio of standard deviation to median absolute deviation of a normal distribution."""


@dataclass(frozen=True)
class DoubtfulLabel:
    """An example whose label is doubtful, according to a model that was not fitted to it.

    Attributes:
        row: Its index among the examples.
        answer: The index of the class that the model predicts, or the value.
        probability_given: Probability of its label; None for numbers.
        probability: Probability of the answer; None for numbers.
        label: In multi-label data, the index of the label in doubt; `answer` is 1 if the text should have it, and 0 if
            it should not.
    """

    row: int
    answer: float
    probability_given: float | None = None
    probability: float | None = None
    label: int | None = None


def doubtful_classes(probabilities: NDArray[Any], labels: NDArray[Any]) -> list[DoubtfulLabel]:
    """Find examples that confidently belong to another class than their label's, the most doubtful first.

    They are ordered by the probability of their label, which ranks planted errors higher than the difference to the
    other class does.

    Args:
        probabilities: Out-of-fold probabilities. *Shape:* (examples, classes).
        labels: Classes as indices. *Shape:* (examples,).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.3, 0.7]])
        >>> [each.row for each in doubtful_classes(p, np.array([0, 0, 1, 1, 1]))]
        [2]
    """
    if not len(labels):
        return []
    classes = probabilities.shape[1]
    # A class without an example is never confident.
    thresholds = np.array(
        [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(classes)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    answers = confident.argmax(1)
    rows = np.arange(len(labels))
    doubted = (confident[rows, answers] >= 0) & (answers != labels)
    given, other = probabilities[rows, labels], probabilities[rows, answers]
    doubted &= other > given
    order = sorted(np.flatnonzero(doubted), key=lambda row: (given[row], row))
    return [DoubtfulLabel(int(row), int(answers[row]), float(given[row]), float(other[row])) for row in order]


def doubtful_memberships(
    probabilities: NDArray[Any], labels: NDArray[Any], judged: NDArray[np.bool_] | None = None
) -> list[DoubtfulLabel]:
    """Find missing and wrong labels in multi-label data, the most doubtful first.

    Each label is judged on its own as a binary class, as in Thyagarajan, Snorrason, Northcutt and Mueller, "Identifying
    Incorrect Annotations in Multi-Label Classification Data", 2022.

    Args:
        probabilities: Out-of-fold probabilities. *Shape:* (examples, labels).
        labels: 1 where an example has the label. *Shape:* (examples, labels).
        judged: Which of these to judge; by default all. *Shape:* (examples, labels).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
        >>> labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
        >>> [(one.row, one.label, one.answer) for one in doubtful_memberships(p, labels)]
        [(2, 0, 1)]
    """
    found = []
    for label in range(labels.shape[1]):
        rows = np.arange(len(labels)) if judged is None else np.flatnonzero(judged[:, label])
        has = probabilities[rows, label]
        doubted = doubtful_classes(np.stack([1 - has, has], 1), labels[rows, label].astype(np.int64))
        found += [replace(each, row=int(rows[each.row]), label=label) for each in doubted]
    return sorted(found, key=lambda each: (each.probability_given or 0.0, each.row))


def doubtful_values(answers: NDArray[Any], labels: NDArray[Any]) -> list[DoubtfulLabel]:
    """Find numbers that are unusually far from their out-of-fold predictions, the farthest first.

    Args:
        answers: Out-of-fold predictions. *Shape:* (examples,).
        labels: *Shape:* (examples,).
    """
    if not len(labels):
        return []
    off = labels - answers
    off = off - np.median(off)
    deviation = _TO_DEVIATIONS * float(np.median(np.abs(off)))
    far = np.flatnonzero(np.abs(off) > _FAR * deviation) if deviation else np.array([], np.int64)
    return [DoubtfulLabel(int(row), float(answers[row])) for row in sorted(far, key=lambda row: (-abs(off[row]), row))]
