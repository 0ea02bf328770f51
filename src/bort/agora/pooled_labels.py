"""Labels by a teacher and a student together, with weights fitted to the development data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Says, Targets, Task

_PENALTY = 1e-3
"""Coefficient of an L2 penalty on the powers, for development data that do not determine them."""
_MOST = 5.0
_CHANCE = 0.05


class Weights(NamedTuple):
    """Weights of teacher and student: powers of probabilities, or coefficients of values."""

    teacher: float
    student: float


TEACHER_ALONE = Weights(1.0, 0.0)
NOBODY = Weights(0.0, 0.0)


def weigh(task: Task, teacher: Says, student: Says, truth: Targets) -> Weights:
    """Find the weights that fit known labels best.

    For classes, and for each of several labels, this is the logarithmic opinion pool p ∝ p_teacher^a · p_student^b
    (Genest and Zidek 1986) with the lowest log-loss, a and b from 0 to 5; it also corrects over- and underconfidence.
    For values, it is the weighted mean with the lowest squared error.

    Args:
        task: The task.
        teacher: The teacher's answers, see `Task.says`; rows of NaN are left out. *Shape:* (examples, outputs).
        student: The same for the student.
        truth: See `Task.targets`.

    Returns:
        The weights; the teacher alone if it knows nothing.
    """
    known = ~np.isnan(teacher).any(-1)
    teacher, student, truth = teacher[known], student[known], truth[known]
    if not len(truth):
        return TEACHER_ALONE
    if not task.names:
        apart, missing = student - teacher, truth.reshape(-1, 1) - teacher
        length = float((apart**2).sum())
        share = float(np.clip((apart * missing).sum() / length, 0.0, 1.0)) if length else 0.0
        return Weights(1.0 - share, share)
    return Weights(*_powers(task, [teacher, student], truth))


def calibrated(task: Task, says: Says, truth: Targets, *, most: float = _MOST) -> Says:
    """Correct over- or underconfidence: raise probabilities to the power with the lowest log-loss.

    This is temperature scaling (Guo et al., "On calibration of modern neural networks", arXiv 1706.04599). Values stay
    as they are.

    Args:
        task: The task.
        says: Predictions in the format of `weigh`, without rows of NaN.
        truth: See `weigh`.
        most: The largest power; 1 corrects overconfidence alone.
    """
    if not task.names or not len(truth):
        return says
    [power] = _powers(task, [says], truth, most)
    return task.says(power * task.bounded(says))


def _powers(task: Task, voices: Sequence[Says], truth: Targets, most: float = _MOST) -> list[float]:
    """Return the powers of several predictions with which their product has the lowest log-loss."""
    from scipy.optimize import minimize

    views = np.stack([task.bounded(voice) for voice in voices])

    def loss(powers: Any) -> tuple[float, Any]:
        mixed = np.tensordot(powers, views, 1)
        value = task.losses(task.says(mixed), truth).mean() + _PENALTY * float(powers @ powers)
        slopes = (views * task.slopes(mixed, truth)).sum(-1).mean(-1)
        return float(value), slopes + 2 * _PENALTY * powers

    start = np.full(len(views), 1 / len(views))
    found = minimize(loss, start, jac=True, bounds=[(0.0, most)] * len(views), method="L-BFGS-B")
    return [round(float(power), 4) for power in found.x]


def pooled(task: Task, weights: Weights, teacher: Says, student: Says) -> Says:
    """Combine the answers of both; NaN where the teacher does not know.

    Args:
        task: The task.
        weights: Weight of each.
        teacher: See `weigh`.
        student: See `weigh`.
    """
    if weights == TEACHER_ALONE:
        return teacher
    says = task.says(weights.teacher * task.bounded(teacher) + weights.student * task.bounded(student))
    says[np.isnan(teacher).any(-1)] = np.nan
    return says


def loss(task: Task, says: Says, truth: Targets) -> float:
    """Return the mean log-loss, or mean squared error, without rows of NaN; infinite if no row is left.

    Args:
        task: The task.
        says: Answers in the format of `weigh`.
        truth: See `weigh`.
    """
    known = ~np.isnan(says).any(-1)
    return float(task.losses(says[known], truth[known]).mean()) if known.any() else float("inf")


def clearly_better(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether one makes significantly fewer errors than the other, by an exact sign test on examples that differ.

    Args:
        one: Its errors per example. *Shape:* (examples,).
        other: Errors of the other. *Shape:* (examples,).
    """
    from scipy.stats import binomtest

    gained, lost = int((one < other).sum()), int((one > other).sum())
    return gained > 0 and bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _CHANCE)
