"""The W-coefficient: how much a member saves relative to the maximum point, divided by its error."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bort.ose.cost import Split
from bort.ose.space import Shape


class Cost(NamedTuple):
    """The cost of a member: parameters (p̂), and time per inference (î) in any unit."""

    parameters: float
    time: float


def savings(cost: Cost, maximum: Cost) -> float:
    """(p̂(T) - p̂(f)) / p̂(T) · (î(T) - î(f)) / î(T): the fractions of size and time that f saves, multiplied.

    0 for T itself and for members as large or as slow as T; below 1 for all others.
    """
    saved_parameters = (maximum.parameters - cost.parameters) / maximum.parameters
    saved_time = (maximum.time - cost.time) / maximum.time
    return saved_parameters * saved_time


def coefficient(cost: Cost, maximum: Cost, error: float) -> float:
    """W(f), larger is better (arXiv 2010.08512): the savings divided by ê(f).

    Args:
        cost: The cost of f.
        maximum: The cost of the maximum point T.
        error: ê(f), above 0. If it is not finite because the training diverged, W is 0.

    Raises:
        ValueError: The error is 0 or less.
    """
    if not math.isfinite(error):
        return 0.0
    if error <= 0:
        raise ValueError(f"an error must be above 0, not {error}")
    return savings(cost, maximum) / error


def could_win(saved: Sequence[float], perfect: float, untrained: float) -> int:
    """Count the members that could have the greatest W.

    No member has a lower error than a perfect student of T. A member is counted if, as a perfect student, it has at
    least the W that the member with the greatest savings has before its training.

    Args:
        saved: The savings of each member.
        perfect: ê of a perfect student, above 0.
        untrained: ê of the member with the greatest savings before its training.
    """
    return sum(own / perfect >= max(saved) / untrained for own in saved)


@dataclass(frozen=True)
class Decision:
    """Whether errors or savings decided a search.

    Args:
        spread_ln_error: Standard deviation of ln ê over the candidates.
        spread_ln_savings: Standard deviation of ln savings.
        rank_correlation: Spearman's, of W with the savings alone; at 1 the errors decided nothing. None for fewer than
            three candidates, or if all are equal.
    """

    spread_ln_error: float
    spread_ln_savings: float
    rank_correlation: float | None


def decision(saved: Sequence[float], errors: Sequence[float]) -> Decision:
    """Compare the candidates' savings with their errors; candidates that save nothing are left out.

    Args:
        saved: Savings of each candidate.
        errors: ê of each candidate, finite and above 0.
    """
    from scipy.stats import spearmanr

    pairs = [(own, error) for own, error in zip(saved, errors, strict=True) if own > 0]
    ln_saved, ln_errors = ([math.log(pair[part]) for pair in pairs] for part in (0, 1))
    rank = math.nan
    if len(pairs) > 2 and len(set(ln_saved)) > 1:
        rank = float(spearmanr([s - e for s, e in zip(ln_saved, ln_errors, strict=True)], ln_saved).statistic)
    of_errors, of_savings = (statistics.pstdev(values) if values else 0.0 for values in (ln_errors, ln_saved))
    return Decision(of_errors, of_savings, rank if math.isfinite(rank) else None)


def doublings(steps: int, most: int | None) -> list[int]:
    """Numbers of training steps to try in turn: s, 2 s, 4 s, … up to `most`; only s if it is None."""
    tried = [steps]
    while most is not None and 2 * tried[-1] <= most:
        tried.append(2 * tried[-1])
    return tried


def rank_agreement(shorter: Sequence[float], longer: Sequence[float]) -> float | None:
    """Spearman's rank correlation of the candidates' errors after s / 2 and after s steps.

    Candidates without two finite errors are left out; None if fewer than three remain, or if all are equal.

    Args:
        shorter: ê of each candidate after s / 2 steps.
        longer: ê of each after s steps, in the same order.
    """
    from scipy.stats import spearmanr

    pairs = [pair for pair in zip(shorter, longer, strict=True) if all(map(math.isfinite, pair))]
    before, after = ([pair[part] for pair in pairs] for part in (0, 1))
    if len(pairs) < 3 or len(set(before)) == 1 or len(set(after)) == 1:
        return None
    return float(spearmanr(before, after).statistic)


def noise_band(repeated: Sequence[tuple[float, float]]) -> float | None:
    """How much ln ê may differ between equal candidates: twice the standard deviation of the difference of two seeds.

    The root mean square of the differences estimates this standard deviation.

    Args:
        repeated: ê of some candidates from two seeds each. Pairs that are not finite are left out.

    Returns:
        The band, or None if no pair is left.
    """
    differences = [math.log(one / other) for one, other in repeated if math.isfinite(one) and math.isfinite(other)]
    return 2 * math.sqrt(statistics.fmean(d * d for d in differences)) if differences else None


def is_level(weight: float, best: float, band: float) -> bool:
    """Whether a W is indistinguishable from the best one: ln W differs by at most the noise band of ln ê."""
    return weight > 0 and best > 0 and math.log(best / weight) <= band


_ROUNDING = 1 + 1e-9


_AXES = ("depth", "heads", "hidden size", "intermediate size", "vocabulary")


def lacking(members: Sequence[Shape], costs: dict[str, Callable[[Shape], Split]]) -> str | None:
    """Describe where a space lacks the weak AB^nC property; None if it has the property.

    The property is about growth: the cost of A and C grows no faster than that of the layers B. On a grid, from a
    member to the next along any axis, the cost of the layers does not decrease, and that of embeddings and head grows
    by at most the same factor.

    Args:
        members: The members of the space.
        costs: Functions by name (parameters, time) that return a member's cost, split into A and C, and B.
    """
    for axis, title in enumerate(_AXES[: len(members[0])]):
        lines: dict[tuple[int, ...], list[Shape]] = defaultdict(list)
        for shape in members:
            lines[(*shape[:axis], *shape[axis + 1 :])].append(shape)
        for line in lines.values():
            for less, more in itertools.pairwise(sorted(line, key=lambda shape: shape[axis])):
                for name, cost in costs.items():
                    before, after = cost(less), cost(more)
                    if after.layers * _ROUNDING < before.layers:
                        return f"the {name} of the layers fall with the {title} from {less} to {more}"
                    if after.outer * before.layers > before.outer * after.layers * _ROUNDING:
                        times = after.outer / before.outer, after.layers / before.layers
                        return (
                            f"from {less} to {more} the {name} of the embeddings grow {times[0]:.2f}-fold, "
                            f"those of the layers {times[1]:.2f}-fold"
                        )
    return None


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other point dominates (the Pareto front), in order.

    A point dominates another if it is nowhere greater and somewhere less. Points with a figure that is not finite are
    not on the front, and dominate none.

    Args:
        points: Figures of each point, lower is better. *Shape:* (points, figures).
    """
    finite = [place for place, point in enumerate(points) if all(map(math.isfinite, point))]
    return [place for place in finite if not any(_dominates(points[other], points[place]) for other in finite)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
