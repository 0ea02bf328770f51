"""Confidence thresholds: for each label, the lowest probability above which its predictions reach a precision."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.tasks.task import Task

IN_CONFIG = "bort_thresholds"
"""Key of the thresholds by label in the config.json of a multi-label model."""
NEVER = 1.0
"""Threshold of a label that cannot reach the precision: no probability exceeds it."""

_MOST_NAMED = 8


@dataclass(frozen=True)
class Thresholds:
    """A model's thresholds, and its results with them on labelled data.

    Args:
        least_precision: Required precision of each label.
        by_label: The thresholds.
        answered: Share of rows that get an answer; in multi-label tasks, at least one label.
        right: Share of the given labels that are correct; 0 if there are none.
        counts: By label, the number of candidate rows (for which it is the likeliest label; in multi-label tasks, all
            rows), how many of them get the label, and how many of those correctly.
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
        """Choose thresholds on labelled rows.

        Args:
            task: The model's task: classification or multi-label.
            logits: Logits of the model. *Shape:* (rows, labels).
            examples: The rows.
            least_precision: Required precision of each label.
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
        """Labels that are never predicted."""
        return [name for name, least in self.by_label.items() if least == NEVER]

    def told(self) -> Iterator[str]:
        """Messages for the user."""
        yield f"{self.answered:.1%} of the gate's rows are answered; {self.right:.1%} of the labels given are right"
        if self.never:
            names = ", ".join(map(repr, self.never[:_MOST_NAMED])) + (", …" if len(self.never) > _MOST_NAMED else "")
            yield f"never answered: {names}; nowhere are these right {self.least_precision:.1%} of the time"

    def figures(self) -> dict[str, Any]:
        """The entries in `metrics.json` and the manifest."""
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
        value: Any value from a file.
        names: All labels.
    """
    if not isinstance(value, dict) or not {*value} <= {*names}:
        return False
    return all(type(each) in (int, float) and 0 <= each <= 1 for each in value.values())


def least_thresholds(
    found: NDArray[np.float32], given: NDArray[np.bool_], right: NDArray[np.bool_], least_precision: float
) -> NDArray[np.float32]:
    """For each label, the lowest threshold above which its precision is at least `least_precision`.

    Args:
        found: Probabilities. *Shape:* (examples, labels).
        given: Which labels each example could be given. *Shape:* (examples, labels).
        right: Which of these are correct. *Shape:* (examples, labels).
        least_precision: Required precision of each label, in (0, 1].

    Returns:
        *Shape:* (labels,). 0 if all predictions together are precise enough, `NEVER` if there are none or no threshold
        is enough.
    """
    thresholds = np.full(found.shape[1], NEVER, np.float32)
    for label, those in enumerate(given.T):
        surest_first = np.argsort(-found[those, label], kind="stable")
        sure = found[those, label][surest_first]
        rightly = right[those, label][surest_first]
        # The threshold that admits each prediction is the next lower probability; for the last one it is 0.
        below = np.append(sure[1:], np.float32(0))[: len(sure)]
        precise = rightly.cumsum() / np.arange(1, len(sure) + 1) >= least_precision
        # Predictions of equal probability pass together or not at all.
        enough = np.flatnonzero(precise & (below < sure))
        if len(enough):
            thresholds[label] = below[enough[-1]]
    return thresholds
