"""Answers that are sure enough: for each label the least probability above which it is right often enough."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.tasks.task import Task

IN_CONFIG = "bort_thresholds"
"""Where config.json of a multi-label model has the threshold of each label."""
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
        counts: By label, how many rows might be given it (those for which it is the likeliest; all where a row may have
            several), how many of them are, and how many rightly.
    """

    least_precision: float
    by_label: Mapping[str, float]
    answered: float
    right: float
    counts: Mapping[str, tuple[int, int, int]]

    @classmethod
    def learned(
        cls, task: Task, logits: NDArray[np.float32], examples: Sequence[Example], least_precision: float
    ) -> Thresholds:
        """Set them by labelled rows.

        Args:
            task: What the model answers: classes or several labels.
            logits: Of the model that is to have the thresholds. *Shape:* (rows, labels).
            examples: The rows.
            least_precision: Share of each label's answers that shall be right.
        """
        found = task.activate(logits)
        given, right = task.claims(logits, task.targets(examples))
        least = least_thresholds(found, given, right, least_precision)
        sure = given & (found > least)
        counts = zip(given.sum(0).tolist(), sure.sum(0).tolist(), (sure & right).sum(0).tolist(), strict=True)
        share = float((sure & right).sum() / sure.sum()) if sure.any() else 0.0
        return cls(
            least_precision,
            dict(zip(task.names, least.tolist(), strict=True)),
            float(sure.any(-1).mean()),
            share,
            dict(zip(task.names, counts, strict=True)),
        )

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
            "counts": {name: list(counts) for name, counts in self.counts.items()},
        }


def are_thresholds(value: Any, names: Collection[str]) -> bool:
    """Whether a value maps labels to probabilities.

    Args:
        value: Out of a file.
        names: All labels.
    """
    if not isinstance(value, dict) or not {*value} <= {*names}:
        return False
    return all(type(each) in (int, float) and 0 <= each <= 1 for each in value.values())


def least_thresholds(
    found: NDArray[np.float32], given: NDArray[np.bool_], right: NDArray[np.bool_], least_precision: float
) -> NDArray[np.float32]:
    """For each label the least threshold above which its answers are right at least so often.

    Args:
        found: Probabilities. *Shape:* (examples, labels).
        given: Which labels each example might be given. *Shape:* (examples, labels).
        right: Which of these it has. *Shape:* (examples, labels).
        least_precision: Share of a label's answers that must be right, in (0, 1].

    Returns:
        *Shape:* (labels,). 0 where all answers will do, `NEVER` where there are none, or the surest of them are wrong
        too often.
    """
    thresholds = np.full(found.shape[1], NEVER, np.float32)
    for label, those in enumerate(given.T):
        surest_first = np.argsort(-found[those, label], kind="stable")
        sure = found[those, label][surest_first]
        rightly = right[those, label][surest_first]
        # Below each answer comes the next one's probability, and below the last nothing.
        below = np.append(sure[1:], np.float32(0))[: len(sure)]
        precise = rightly.cumsum() / np.arange(1, len(sure) + 1) >= least_precision
        # Answers of one probability pass together or not at all; those of 1 lie above no threshold.
        enough = np.flatnonzero(precise & (below < sure))
        if len(enough):
            thresholds[label] = below[enough[-1]]
    return thresholds
