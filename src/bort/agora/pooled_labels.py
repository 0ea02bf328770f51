"""Labels that a teacher and a student give together: each is heard as far as the development data bear it out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Says, Targets, Task

_FLOOR = 1e-6
_PENALTY = 1e-3
"""On the squares of the weights, where the development data leave them open."""
_MOST = 5.0
_CHANCE = 0.05


class Weights(NamedTuple):
    """How much each counts: powers of probabilities, or parts of a value."""

    teacher: float
    student: float


TEACHER_ALONE = Weights(1.0, 0.0)
NOBODY = Weights(0.0, 0.0)


def weigh(task: Task, teacher: Says, student: Says, truth: Targets) -> Weights:
    """Find the weights that suit known answers best.

    Of classes, and of each of several labels, the logarithmic opinion pool p ∝ p_teacher^a · p_student^b (Genest and
    Zidek 1986) with the least log-loss, a and b from 0 to 5; it makes up for too much or too little certainty, too. Of
    values the weighted mean with the least squared error.

    Args:
        task: What is asked.
        teacher: As of `Task.says`. Rows of NaN, where it does not know, are left out. *Shape:* (examples, outputs).
        student: The same of the student.
        truth: As of `Task.targets`.

    Returns:
        Weights; the teacher's alone where it knows nothing.
    """
    known = ~np.isnan(teacher).any(-1)
    teacher, student, truth = teacher[known], student[known], truth[known]
    if not len(truth):
        return TEACHER_ALONE
    if not task.names:
        apart, missing = student - teacher, truth.reshape(-1, 1) - teacher
        share = float(np.clip((apart * missing).sum() / max(float((apart**2).sum()), _FLOOR), 0.0, 1.0))
        return Weights(1.0 - share, share)
    from scipy.optimize import minimize

    views = np.stack([task.bounded(teacher), task.bounded(student)])

    def loss(weights: Any) -> tuple[float, Any]:
        mixed = np.tensordot(weights, views, 1)
        value = task.losses(task.says(mixed), truth).mean() + _PENALTY * float(weights @ weights)
        slopes = (views * task.slopes(mixed, truth)).sum(-1).mean(-1)
        return float(value), slopes + 2 * _PENALTY * weights

    found = minimize(loss, np.array([0.5, 0.5]), jac=True, bounds=[(0.0, _MOST)] * 2, method="L-BFGS-B")
    return Weights(*(round(float(weight), 4) for weight in found.x))


def pooled(task: Task, weights: Weights, teacher: Says, student: Says) -> Says:
    """What both say, as `Teacher` says it; NaN where the teacher does not know.

    Args:
        task: What is asked.
        weights: Of each.
        teacher: As of `weigh`.
        student: As of `weigh`.
    """
    if weights == TEACHER_ALONE:
        return teacher
    says = task.says(weights.teacher * task.bounded(teacher) + weights.student * task.bounded(student))
    says[np.isnan(teacher).any(-1)] = np.nan
    return says


def loss(task: Task, says: Says, truth: Targets) -> float:
    """Mean log-loss, or mean squared error; rows of NaN, where nobody knows, are left out.

    Args:
        task: What is asked.
        says: As of `weigh`.
        truth: As of `weigh`.
    """
    known = ~np.isnan(says).any(-1)
    return float(task.losses(says[known], truth[known]).mean()) if known.any() else float("inf")


def clearly_better(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether one makes fewer mistakes more often, beyond chance: by the exact sign test on the examples that differ.

    Args:
        one: How many mistakes it makes of each example. *Shape:* (examples,).
        other: How many the other makes. *Shape:* (examples,).
    """
    from scipy.stats import binomtest

    gained, lost = int((one < other).sum()), int((one > other).sum())
    return gained > 0 and bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _CHANCE)
