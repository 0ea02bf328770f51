"""Labels that a teacher and a student give together: each is heard as far as the development data bear it out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Says = NDArray[np.float64]
Bools = NDArray[np.bool_]
_FLOOR = 1e-6
"""Least probability: one who is certain and wrong must not silence the other."""
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


def weigh(teacher: Says, student: Says, truth: NDArray[Any]) -> Weights:
    """Find the weights that suit known answers best.

    Of classes the logarithmic opinion pool p ∝ p_teacher^a · p_student^b (Genest and Zidek 1986) with the least
    log-loss, a and b from 0 to 5; it makes up for too much or too little certainty, too. Of values the weighted mean
    with the least squared error.

    Args:
        teacher: Log-probabilities, *shape* (examples, classes), or values, *shape* (examples, 1). Rows of NaN, where it
            does not know, are left out.
        student: The same of the student.
        truth: Classes or values. *Shape:* (examples,).

    Returns:
        Weights; the teacher's alone where it knows nothing.
    """
    known = ~np.isnan(teacher).any(-1)
    teacher, student, truth = teacher[known], student[known], truth[known]
    if not len(truth):
        return TEACHER_ALONE
    if teacher.shape[1] == 1:
        apart, missing = student - teacher, truth.reshape(-1, 1) - teacher
        share = float(np.clip((apart * missing).sum() / max(float((apart**2).sum()), _FLOOR), 0.0, 1.0))
        return Weights(1.0 - share, share)
    from scipy.optimize import minimize

    views, rows = np.stack([_floored(teacher), _floored(student)]), np.arange(len(truth))

    def loss(weights: Any) -> tuple[float, Any]:
        log_p = normalised(np.tensordot(weights, views, 1))
        expected = (np.exp(log_p) * views).sum(-1).mean(-1)
        value = -log_p[rows, truth].mean() + _PENALTY * float(weights @ weights)
        return float(value), expected - views[:, rows, truth].mean(-1) + 2 * _PENALTY * weights

    found = minimize(loss, np.array([0.5, 0.5]), jac=True, bounds=[(0.0, _MOST)] * 2, method="L-BFGS-B")
    return Weights(*(round(float(weight), 4) for weight in found.x))


def pooled(weights: Weights, teacher: Says, student: Says) -> Says:
    """What both say, as `Teacher` says it; NaN where the teacher does not know.

    Args:
        weights: Of each.
        teacher: As of `weigh`.
        student: As of `weigh`.
    """
    if weights == TEACHER_ALONE:
        return teacher
    if teacher.shape[1] == 1:
        return weights.teacher * teacher + weights.student * student
    says = normalised(weights.teacher * _floored(teacher) + weights.student * _floored(student))
    says[np.isnan(teacher).any(-1)] = np.nan
    return says


def loss(says: Says, truth: NDArray[Any]) -> float:
    """Mean log-loss, or mean squared error; rows of NaN, where nobody knows, are left out.

    Args:
        says: As of `weigh`. *Shape:* (examples, classes), or (examples, 1) for values.
        truth: Classes or values. *Shape:* (examples,).
    """
    known = ~np.isnan(says).any(-1)
    says, truth = says[known], truth[known]
    if not len(truth):
        return float("inf")
    if says.shape[1] == 1:
        return float(((says[:, 0] - truth) ** 2).mean())
    return float(-_floored(says)[np.arange(len(truth)), truth].mean())


def clearly_better(one: Bools, other: Bools) -> bool:
    """Whether one is right more often, beyond chance: by the exact sign test on what only one of the two gets right.

    Args:
        one: Where it is right. *Shape:* (examples,).
        other: Where the other is. *Shape:* (examples,).
    """
    from scipy.stats import binomtest

    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained > 0 and bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _CHANCE)


def _floored(says: Says) -> Says:
    floored: Says = np.maximum(says, np.log(_FLOOR))
    return floored


def normalised(says: Says) -> Says:
    """Log-probabilities that sum to 1 in each row."""
    shifted = says - says.max(-1, keepdims=True)
    log_p: Says = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_p
