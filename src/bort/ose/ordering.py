"""The order of a search space by cost, and its blocks of ε (arXiv 2010.08512, steps 1 to 4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bort.errors import BortError
from bort.ose.criteria import Cost, savings

M = TypeVar("M")


@dataclass(frozen=True)
class Bound(Generic[M]):
    """An upper bound that members must satisfy.

    Args:
        name: Name of the bounded quantity, for messages.
        of: Returns this quantity of a member.
        most: Its maximum.
    """

    name: str
    of: Callable[[M], float]
    most: float


@dataclass(frozen=True)
class Ranked(Generic[M]):
    """A member in the order of the space.

    Args:
        member: The member.
        cost: Its p̂ and î.
        place: Its place in the order of all members, from 0.
        block: Its ε-block, from 0; None for the maximum point and for members over a budget.
        taken: Whether it is the candidate of its block.
    """

    member: M
    cost: Cost
    place: int
    block: int | None
    taken: bool


@dataclass(frozen=True)
class Ordering(Generic[M]):
    """The space sorted by cost, in blocks.

    Args:
        members: All members, in order.
        maximum: The cost of the maximum point T.
        epsilon: Members per block.
    """

    members: list[Ranked[M]]
    maximum: Cost
    epsilon: int

    @property
    def taken(self) -> list[Ranked[M]]:
        """The first member of each block."""
        return [ranked for ranked in self.members if ranked.taken]

    @property
    def kept_savings(self) -> float:
        """1 - γ: savings of a block's first member relative to the greatest in the block, minimum over all blocks."""
        least = 1.0
        for _, block in itertools.groupby((r for r in self.members if r.block is not None), key=lambda r: r.block):
            saved = [savings(ranked.cost, self.maximum) for ranked in block]
            if (best := max(saved)) > 0:
                least = min(least, saved[0] / best)
        return least

    def guarantee(self, roughness: float) -> float:
        """Lower bound of the ratio of the found W to the best one, for errors of a certain roughness.

        Let (1 - γ) be `kept_savings`, and let ln ê change by at most L between consecutive members in blocks. The best
        member is in some block, fewer than ε places after the first member, which is a candidate with at least (1 - γ)
        times its savings and at most e^(L (ε - 1)) times its error. So

            W(found) ≥ (1 - γ) · e^(-L (ε - 1)) · W(best).

        Args:
            roughness: L, at least 0.
        """
        return self.kept_savings * math.exp(-roughness * (self.epsilon - 1))


def order(
    space: Iterable[M],
    cost: Callable[[M], Cost],
    *,
    epsilon: int = 1,
    maximum: Cost | None = None,
    budgets: Sequence[Bound[M]] = (),
) -> Ordering[M]:
    """Sort a space by (p̂, î) and split it into blocks of ε; equal costs are sorted by the members themselves.

    The maximum point T, to which W relates, is in no block. Neither are members over a budget.

    Args:
        space: The members, which must be distinct, comparable and hashable.
        cost: Returns p̂ and î of a member.
        epsilon: Members per block, at least 1; the last block may have fewer.
        maximum: The cost of T; by default T is the member with the highest cost.
        budgets: Bounds that members must satisfy.

    Raises:
        BortError: No member has the highest cost in both parameters and time; `maximum` is below a member's cost; ε is
            below 1 or above the size of the space; no member satisfies the budgets (the message names the nearest).
    """
    costs = {member: cost(member) for member in space}
    ranked = sorted(costs, key=lambda member: (costs[member], member))
    if not 1 <= epsilon <= max(1, len(ranked)):
        raise BortError(f"must be from 1 to the {len(ranked)} members", setting="epsilon", value=epsilon)
    most = _maximum(ranked, costs) if maximum is None else maximum
    for member, its in costs.items():
        if its.parameters > most.parameters or its.time > most.time:
            rule = f"must have at least the parameters and the time of every member; {member} has more"
            raise BortError(rule, setting="maximum")
    allowed = [member for member in ranked if costs[member] != most]
    if not allowed:
        raise BortError("the space must hold more than its maximum point")
    kept = [member for member in allowed if all(budget.of(member) <= budget.most for budget in budgets)]
    if not kept:
        raise _unreachable(allowed, budgets)
    places = {member: place for place, member in enumerate(kept)}
    return Ordering(
        [
            Ranked(
                member,
                costs[member],
                place,
                places[member] // epsilon if member in places else None,
                member in places and places[member] % epsilon == 0,
            )
            for place, member in enumerate(ranked)
        ],
        most,
        epsilon,
    )


def _maximum(ranked: Sequence[M], costs: dict[M, Cost]) -> Cost:
    if not ranked:
        raise BortError("the space must have members")
    largest, slowest = ranked[-1], max(ranked, key=lambda member: costs[member].time)
    if costs[largest].time < costs[slowest].time:
        rule = (
            f"the space has no maximum point, which would cost most in both: {largest} has the most parameters, and "
            f"{slowest} takes the longest"
        )
        raise BortError(rule, setting="space")
    return costs[largest]


def _unreachable(members: Sequence[M], budgets: Sequence[Bound[M]]) -> BortError:
    nearest = min(members, key=lambda member: max(budget.of(member) / budget.most for budget in budgets))
    misses = ", ".join(
        f"{budget.name} {budget.of(nearest):,.6g} where at most {budget.most:,.6g} may be"
        for budget in budgets
        if budget.of(nearest) > budget.most
    )
    return BortError(f"no member of the space keeps within the budget; the nearest, {nearest}, has {misses}")
