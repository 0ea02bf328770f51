"""Measured inference time: a polynomial of the shape, fitted to a few members that were timed on the device at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.ose.cost import Split
from bort.ose.space import Shape

_TERMS = ("1", "H", "D", "D A", "D H", "D I", "D H²", "D H I")
_OUTER = 2
LEAST_TIMED = len(_TERMS) + 2
"""Members that must be timed, so that a fit without one of them has more equations than unknowns."""


@dataclass(frozen=True)
class Fit:
    """How well a polynomial tells the times of members that it was not fitted to, by leaving each out in turn.

    Args:
        members: How many were timed.
        mean_error: Mean of |predicted - timed| / timed.
        worst_error: The greatest of them.
        spearman: Rank correlation of predicted and timed.
    """

    members: int
    mean_error: float
    worst_error: float
    spearman: float


@dataclass(frozen=True)
class TimePolynomial:
    """Milliseconds of an inference, as a polynomial of the shape with coefficients of 0 and more.

    For a fixed length and batch, a layer does H² and H I multiplications, and A softmaxes; the embeddings' work grows
    with H. No coefficient is negative, so that time falls along no axis.

    Args:
        coefficients: Milliseconds a unit of each of 1, H, D, D A, D H, D I, D H², D H I.
        fit: What it makes of members that it has not seen.
    """

    coefficients: tuple[float, ...]
    fit: Fit

    def __call__(self, shape: Shape) -> Split:
        """Milliseconds of the embeddings, and of all layers."""
        parts = [weight * term for weight, term in zip(self.coefficients, _terms(shape), strict=True)]
        return Split(sum(parts[:_OUTER]), sum(parts[_OUTER:]))

    def described(self) -> dict[str, Any]:
        """For metrics: coefficients by term, and the fit."""
        return {"coefficients_ms": dict(zip(_TERMS, self.coefficients, strict=True)), **vars(self.fit)}


def fit_polynomial(timed: Mapping[Shape, float]) -> TimePolynomial:
    """Fit by least squares of the relative errors, so that small members count as much as large ones.

    Args:
        timed: Milliseconds of members; at least `LEAST_TIMED`.

    Raises:
        ValueError: Too few.
    """
    from scipy.stats import spearmanr

    if len(timed) < LEAST_TIMED:
        raise ValueError(f"needs at least {LEAST_TIMED} timed members, not {len(timed)}")
    shapes, times = list(timed), np.array(list(timed.values()))
    left_out = []
    for place, shape in enumerate(shapes):
        others = [other for other in range(len(shapes)) if other != place]
        weights = _solve([shapes[other] for other in others], times[others])
        left_out.append(float(np.dot(_terms(shape), weights)))
    errors = np.abs(np.array(left_out) - times) / times
    rank = float(spearmanr(left_out, times).statistic)
    fit = Fit(len(shapes), float(errors.mean()), float(errors.max()), rank if math.isfinite(rank) else 0.0)
    return TimePolynomial(tuple(_solve(shapes, times).tolist()), fit)


def sample(members: Sequence[Shape], count: int, seed: int = 0) -> list[Shape]:
    """Members to time: the corners of the grid, then others by chance.

    Args:
        members: Of the space.
        count: How many, or all where there are not so many.
        seed: Source of chance.
    """
    least, most = (tuple(pick(axis) for axis in zip(*members, strict=True)) for pick in (min, max))
    corners = [m for m in members if all(v in ends for v, ends in zip(m, zip(least, most, strict=True), strict=True))]
    rng = np.random.default_rng(seed)
    corners = [corners[place] for place in rng.permutation(len(corners))]
    others = [member for member in members if member not in set(corners)]
    others = [others[place] for place in rng.permutation(len(others))]
    half = max(1, count // 2, count - len(others))
    return [*corners[:half], *others][:count]


def _terms(shape: Shape) -> list[float]:
    d, a, h, i = map(float, shape)
    return [1.0, h, d, d * a, d * h, d * i, d * h * h, d * h * i]


def _solve(shapes: Sequence[Shape], times: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls

    relative = np.array([_terms(shape) for shape in shapes]) / times[:, None]
    scale = relative.max(0)
    weights: NDArray[np.float64] = nnls(relative / scale, np.ones(len(times)))[0] / scale
    return weights
