"""How much of a metric one row's answer can cost, which the gate allows for rows unlike all that it has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.metrics import ratio
from bort.tasks.task import Outputs, Targets, Task


def costliest_row(task: Task, outputs: Outputs, targets: Targets) -> float:
    """The most that the task's metric loses if one row loses all its labels and is given the costliest wrong one.

    This is the metric's derivative, so it holds for a change of few rows. The rarer a label, the more its rows cost. A
    label that no row has and no answer names counts as if it had one row.

    Args:
        task: A task with labels and, if it has thresholds, with these.
        outputs: Outputs of a model. *Shape:* (rows, outputs).
        targets: The right answers.

    Example:
        >>> from bort.tasks.classification import Classification
        >>> right = np.array([0] * 90 + [1] * 10)
        >>> outputs = np.eye(2)[right]
        >>> [round(costliest_row(Classification(("a", "b"), m), outputs, right), 3) for m in ("f1", "f1_positive")]
        [0.028, 0.05]
    """
    one_hot = np.eye(task.outputs)
    truth, given = (rows if rows.ndim == 2 else one_hot[rows] for rows in (targets, task.decide(outputs)))
    lost, wrong = _costs(task.metric, truth.astype(np.float64), given.astype(np.float64))
    possible = np.vstack([truth, one_hot])  # the next row may have a label that none of these has
    return float((possible @ lost + np.where(possible > 0, 0.0, wrong).max(-1)).max())


def _costs(metric: str, truth: NDArray[Any], given: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What it costs if a row loses a label, and if it is wrongly given one. *Shape:* (labels,) each."""
    rows, labels = truth.shape
    having, answered, right = truth.sum(0), given.sum(0), (truth * given).sum(0)
    occurring = max(1, int((having + answered > 0).sum()))
    if metric == "matthews":
        spread = [max(float(rows**2 - np.square(counts).sum()), rows) for counts in (having, answered)]
        both = np.sqrt(spread[0] * spread[1])
        agreement = (rows * right.sum() - having @ answered) / both
        turned = having / both - agreement * answered / spread[1]
        return rows / both - turned, turned
    if metric == "mean_average_precision":
        # A right row falls to the end of the ranking, or a wrong one rises to its top.
        each = np.maximum(having, 1) * max(1, int((having > 0).sum()))
        return 1 / each, np.maximum(1.0, np.log1p(having)) / each
    if metric == "f1_micro":
        having, answered, right = (np.full(labels, counts.sum()) for counts in (having, answered, right))
    named = having + answered
    f1 = np.where(named > 0, ratio(2 * right, named), 1.0)
    weight = np.full(labels, 1.0 if metric == "f1_micro" else 1 / occurring)
    if metric == "f1_positive":
        weight = np.array([0.0, 1.0])
    named = np.maximum(named, 2)
    return weight * (2 - f1) / named, weight * f1 / named
