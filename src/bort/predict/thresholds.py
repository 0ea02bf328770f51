"""Answers that are sure enough: for each label the least probability above which it is right often enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example, encode_labels

NEVER = 1.0
"""The threshold of a label that no probability makes sure enough: nothing lies above it."""

_MOST_NAMED = 8


@dataclass(frozen=True)
class Thresholds:
    """What a model does with its thresholds on labelled data.

    Args:
        least_precision: Share of each label's answers that shall be right.
        by_label: The thresholds.
        answered: Share of the rows that get an answer.
        right: Share of those answers that are right; 0 where there are none.
        counts: By label, how many rows the model takes for it, how many of them it answers, and how many rightly.
    """

    least_precision: float
    by_label: Mapping[str, float]
    answered: float
    right: float
    counts: Mapping[str, tuple[int, int, int]]

    @classmethod
    def learned(
        cls, logits: NDArray[np.float32], examples: Sequence[Example], names: Sequence[str], least_precision: float
    ) -> Thresholds:
        """Set them by labelled rows.

        Args:
            logits: Of the model that is to have the thresholds. *Shape:* (rows, classes).
            examples: The rows.
            names: Of the classes.
            least_precision: Share of each label's answers that shall be right.
        """
        targets = np.asarray(encode_labels(examples, names), np.int64)
        found = probabilities(logits)
        by_label = dict(zip(names, least_thresholds(found, targets, least_precision).tolist(), strict=True))
        sure, answers = answered(found, names, by_label), found.argmax(-1)
        right = sure & (answers == targets)
        counts = {
            name: (int((answers == label).sum()), int(sure[answers == label].sum()), int(right[answers == label].sum()))
            for label, name in enumerate(names)
        }
        share = float(right.sum() / sure.sum()) if sure.any() else 0.0
        return cls(least_precision, by_label, float(sure.mean()), share, counts)

    @property
    def never(self) -> list[str]:
        """Labels that are never answered."""
        return [name for name, least in self.by_label.items() if least == NEVER]

    def told(self) -> Iterator[str]:
        """Lines for a person."""
        yield f"{self.answered:.1%} of the gate's rows are answered, {self.right:.1%} of those rightly"
        if self.never:
            names = ", ".join(map(repr, self.never[:_MOST_NAMED])) + (", …" if len(self.never) > _MOST_NAMED else "")
            yield f"never answered: {names}; nowhere are these right {self.least_precision:.1%} of the time"

    def figures(self) -> dict[str, Any]:
        """For `metrics.json` and the manifest."""
        return {
            "min_precision": self.least_precision,
            "answered": self.answered,
            "right": self.right,
            "by_label": dict(self.by_label),
        }


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each class. *Shape:* (examples, classes) -> the same."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    found: NDArray[np.float32] = shifted / shifted.sum(-1, keepdims=True)
    return found


def least_thresholds(
    found: NDArray[np.float32], targets: NDArray[np.int64], least_precision: float
) -> NDArray[np.float32]:
    """For each class the least threshold above which its answers are right at least so often.

    Args:
        found: Probabilities. *Shape:* (examples, classes). An answer is the class of the greatest.
        targets: The right classes. *Shape:* (examples,).
        least_precision: Share of a class's answers that must be right, in (0, 1].

    Returns:
        *Shape:* (classes,). 0 where all answers will do, `NEVER` where there are none, or the surest of them are wrong
        too often.
    """
    answers, classes = found.argmax(-1), found.shape[1]
    thresholds = np.full(classes, NEVER, np.float32)
    for label in range(classes):
        given = answers == label
        surest_first = np.argsort(-found[given, label], kind="stable")
        sure = found[given, label][surest_first]
        right = (targets[given] == label)[surest_first]
        # Below each answer comes the next one's probability, and below the last nothing.
        below = np.append(sure[1:], np.float32(0))[: len(sure)]
        precise = right.cumsum() / np.arange(1, len(sure) + 1) >= least_precision
        # Answers of one probability pass together or not at all; those of 1 lie above no threshold.
        enough = np.flatnonzero(precise & (below < sure))
        if len(enough):
            thresholds[label] = below[enough[-1]]
    return thresholds


def answered(found: NDArray[np.float32], names: Sequence[str], thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which answers are sure enough. *Shape:* (examples, classes) -> (examples,).

    Args:
        found: Probabilities. *Shape:* (examples, classes).
        names: Of the classes.
        thresholds: By name; a class without one is always sure enough.
    """
    answers = found.argmax(-1)
    least = np.array([thresholds.get(name, 0.0) for name in names])
    sure: NDArray[np.bool_] = found[np.arange(len(found)), answers] > least[answers]
    return sure
