"""Labels that are probably wrong: confident learning on a linear head's answers out of fold.

After Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021, section
3.1: a class is confidently predicted for an example where its probability reaches the mean probability that the class
has among the examples labelled with it. An example whose likeliest such class is not its label is doubtful. (The
authors' library, cleanlab, is under the AGPL, which the users of a package under the Apache license could not take.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAR = 4.0
"""Robust standard deviations beyond which a number is doubtful: one in 16,000 of a normal distribution."""
_TO_DEVIATIONS = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""


@dataclass(frozen=True)
class DoubtfulLabel:
    """An example whose label a model that has not seen it doubts.

    Attributes:
        row: Its place among the examples.
        answer: The class that the model gives it, as an index; or the value.
        probability_given: Of its label; None for numbers.
        probability: Of the answer; None for numbers.
        label: Of several labels a text, the one in doubt, as an index; `answer` is 1 where the text should have it, and
            0 where it should not.
    """

    row: int
    answer: float
    probability_given: float | None = None
    probability: float | None = None
    label: int | None = None


def doubtful_classes(probabilities: NDArray[Any], labels: NDArray[Any]) -> list[DoubtfulLabel]:
    """Find examples that confidently belong to another class than their label's, the most doubtful first.

    They are ordered by how unlikely their label is: planted errors stood further ahead so than by the difference to the
    other class.

    Args:
        probabilities: Out of fold. *Shape:* (examples, classes).
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


def doubtful_memberships(probabilities: NDArray[Any], labels: NDArray[Any]) -> list[DoubtfulLabel]:
    """Find labels that texts of several should have or should not, each label judged alone, the most doubtful first.

    Each label is a class that a text has or has not, as in Thyagarajan, Snorrason, Northcutt and Mueller, "Identifying
    Incorrect Annotations in Multi-Label Classification Data", 2022.

    Args:
        probabilities: Out of fold. *Shape:* (examples, labels).
        labels: 1 where an example has the label. *Shape:* (examples, labels).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
        >>> labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
        >>> [(one.row, one.label, one.answer) for one in doubtful_memberships(p, labels)]
        [(2, 0, 1)]
    """
    found = []
    for label in range(labels.shape[1]):
        has = probabilities[:, label]
        doubted = doubtful_classes(np.stack([1 - has, has], 1), labels[:, label].astype(np.int64))
        found += [replace(each, label=label) for each in doubted]
    return sorted(found, key=lambda each: (each.probability_given or 0.0, each.row))


def doubtful_values(answers: NDArray[Any], labels: NDArray[Any]) -> list[DoubtfulLabel]:
    """Find numbers that are unusually far from what is said of them out of fold, the farthest first.

    Args:
        answers: *Shape:* (examples,).
        labels: *Shape:* (examples,).
    """
    if not len(labels):
        return []
    off = labels - answers
    off = off - np.median(off)
    deviation = _TO_DEVIATIONS * float(np.median(np.abs(off)))
    far = np.flatnonzero(np.abs(off) > _FAR * deviation) if deviation else np.array([], np.int64)
    return [DoubtfulLabel(int(row), float(answers[row])) for row in sorted(far, key=lambda row: (-abs(off[row]), row))]
