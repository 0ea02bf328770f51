"""The W-coefficient: how much a member saves beside the maximum point, for the error that it makes."""

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
    """What a member costs: parameters (p̂), and time of an inference (î) in any unit."""

    parameters: float
    time: float


def savings(cost: Cost, maximum: Cost) -> float:
    """(p̂(T) - p̂(f)) / p̂(T) · (î(T) - î(f)) / î(T): the shares of size and time that f saves, multiplied.

    0 for T itself and for what is as large or as slow; below 1 for all others.
    """
    saved_parameters = (maximum.parameters - cost.parameters) / maximum.parameters
    saved_time = (maximum.time - cost.time) / maximum.time
    return saved_parameters * saved_time


def coefficient(cost: Cost, maximum: Cost, error: float) -> float:
    """W(f), larger is better (arXiv 2010.08512): the savings, divided by ê(f).

    Args:
        cost: Of f.
        maximum: Of the maximum point T.
        error: ê(f), above 0. One that is not finite, of a training that diverged, gives 0.

    Raises:
        ValueError: The error is 0 or less.
    """
    if not math.isfinite(error):
        return 0.0
    if error <= 0:
        raise ValueError(f"an error must be above 0, not {error}")
    return savings(cost, maximum) / error


def could_win(saved: Sequence[float], perfect: float, untrained: float) -> int:
    """How many members could have the greatest W at all.

    A perfect student of T has the least error there is. It wins only if its W exceeds that of the member that saves
    most, even where that one has learned nothing.

    Args:
        saved: The savings of each member.
        perfect: ê of a perfect student, above 0.
        untrained: ê of a member before its training.
    """
    return sum(own / perfect >= max(saved) / untrained for own in saved)


@dataclass(frozen=True)
class Decision:
    """Whether errors or savings decided a search.

    Args:
        spread_ln_error: Standard deviation of ln ê over the candidates.
        spread_ln_savings: Of ln savings.
        rank_correlation: Spearman's, of W with the savings alone; at 1 the errors decided nothing. None of fewer than
            three candidates, or where all are equal.
    """

    spread_ln_error: float
    spread_ln_savings: float
    rank_correlation: float | None


def decision(saved: Sequence[float], errors: Sequence[float]) -> Decision:
    """Compare what the candidates save with what they get wrong; those that save nothing are left out.

    Args:
        saved: Savings of each.
        errors: ê of each, finite and above 0.
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
    """Training steps to try one after another: s, 2 s, 4 s, … up to the most; s alone without one."""
    tried = [steps]
    while most is not None and 2 * tried[-1] <= most:
        tried.append(2 * tried[-1])
    return tried


def rank_agreement(shorter: Sequence[float], longer: Sequence[float]) -> float | None:
    """Spearman's rank correlation of the candidates' errors after s / 2 and after s steps.

    Candidates without a finite error in both are left out; None where fewer than three remain, or all are equal.

    Args:
        shorter: ê of each candidate after s / 2 steps.
        longer: After s, in the same order.
    """
    from scipy.stats import spearmanr

    pairs = [pair for pair in zip(shorter, longer, strict=True) if all(map(math.isfinite, pair))]
    before, after = ([pair[part] for pair in pairs] for part in (0, 1))
    if len(pairs) < 3 or len(set(before)) == 1 or len(set(after)) == 1:
        return None
    return float(spearmanr(before, after).statistic)


def noise_band(repeated: Sequence[tuple[float, float]]) -> float | None:
    """By how much ln ê may differ between equal candidates: twice the deviation between two seeds.

    The root mean square of the differences estimates the standard deviation of a difference of two trainings.

    Args:
        repeated: ê of some candidates from two seeds each. Pairs that are not finite are left out.

    Returns:
        None where nothing is left.
    """
    differences = [math.log(one / other) for one, other in repeated if math.isfinite(one) and math.isfinite(other)]
    return 2 * math.sqrt(statistics.fmean(d * d for d in differences)) if differences else None


def is_level(weight: float, best: float, band: float) -> bool:
    """Whether a W cannot be told from the best one: ln W differs by no more than the noise band of ln ê."""
    return weight > 0 and best > 0 and math.log(best / weight) <= band


_ROUNDING = 1 + 1e-9


_AXES = ("depth", "heads", "hidden size", "intermediate size", "vocabulary")


def lacking(members: Sequence[Shape], costs: dict[str, Callable[[Shape], Split]]) -> str | None:
    """Say where a space lacks the weak AB^nC property; None where it has it.

    The property is about growth: the cost of A and C grows no faster than that of the layers B. On a grid: from a
    member to the next along any axis, the cost of the layers does not fall, and that of embeddings and head is
    multiplied by no more than that of the layers is.

    Args:
        members: Of the space.
        costs: By name (parameters, time) what a member costs, split into A and C, and B.
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
    """Places of the points that no other dominates, in their order.

    A point dominates another if it is nowhere greater and somewhere less. Points with a figure that is not finite are
    on no front, and dominate none.

    Args:
        points: Figures of each, the less the better. *Shape:* (points, figures).
    """
    finite = [place for place, point in enumerate(points) if all(map(math.isfinite, point))]
    return [place for place in finite if not any(_dominates(points[other], points[place]) for other in finite)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
