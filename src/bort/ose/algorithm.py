"""Optimal subarchitecture extraction, the search itself (arXiv 2010.08512).

Nothing here knows of networks: what a member costs and how wrong it is after a short training are functions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from bort.errors import BortError
from bort.ose.criteria import Cost, coefficient
from bort.ose.ordering import Bound, Ordering, Ranked, order
from bort.workers import InProcess, Workers

M = TypeVar("M")


@dataclass(frozen=True)
class Evaluation:
    """What a search learns of a member.

    Args:
        error: ê; not finite where the training diverged or failed.
        about: Whatever else the training has to tell, in JSON values.
        failure: What the training raised, if it did.
    """

    error: float
    about: dict[str, Any] = field(default_factory=dict)
    failure: Exception | None = None


@dataclass(frozen=True)
class Candidate(Generic[M]):
    """A member that was taken, with its ê and its W; without a finite error, W = 0."""

    ranked: Ranked[M]
    evaluation: Evaluation
    coefficient: float
    within: bool = True
    """Whether its error keeps the bound on errors, if there is one."""

    @property
    def member(self) -> M:
        """The member itself."""
        return self.ranked.member

    @property
    def error(self) -> float:
        """ê."""
        return self.evaluation.error

    @property
    def failed(self) -> bool:
        """Whether its training raised, so that nothing is known of it."""
        return self.evaluation.failure is not None

    @property
    def diverged(self) -> bool:
        """Whether its training ended in numbers that are not finite."""
        return not self.failed and not self.sound

    @property
    def standing(self) -> tuple[bool, bool, float, int]:
        """Sorts the best first."""
        return not self.within, not self.sound, -self.coefficient, self.ranked.place

    @property
    def sound(self) -> bool:
        """Whether it has an error to compare."""
        return math.isfinite(self.evaluation.error)


@dataclass(frozen=True)
class SearchResult(Generic[M]):
    """What was found.

    Args:
        best: The candidate with the greatest W; of equals the first.
        candidates: In their order.
        ordering: Of the whole space.
    """

    best: Candidate[M]
    candidates: list[Candidate[M]]
    ordering: Ordering[M]

    @property
    def ranking(self) -> list[Candidate[M]]:
        """The candidates by W, those that keep the bound on errors first; of equals the first in order."""
        return sorted(self.candidates, key=lambda candidate: candidate.standing)

    def require(self, max_error: float) -> None:
        """Refuse an answer that exceeds a bound.

        Raises:
            BortError: No candidate keeps it; the nearest is named.
        """
        if not self.best.within and (sound := [candidate for candidate in self.candidates if candidate.sound]):
            nearest = min(sound, key=lambda candidate: candidate.error)
            rule = f"no candidate keeps the bound; the nearest, {nearest.member}, has {nearest.error:.4g}; train longer"
            raise BortError(rule, setting="max_error", value=max_error)

    @property
    def roughness(self) -> float:
        """An estimate of L from below: the greatest slope of ln ê between neighbouring candidates, a place."""
        sound = [candidate for candidate in self.candidates if candidate.sound]
        slopes = [
            abs(math.log(after.error / before.error)) / (self.ordering.epsilon * (_block(after) - _block(before)))
            for before, after in itertools.pairwise(sound)
        ]
        return max(slopes, default=0.0)


def _block(candidate: Candidate[Any]) -> int:
    assert candidate.ranked.block is not None
    return candidate.ranked.block


K = TypeVar("K", contravariant=True)


class SearchJournal(Protocol[K]):
    """Where what is done is noted, so that an interrupted search does not do it again."""

    def evaluation(self, member: K) -> Evaluation | None:
        """The evaluation of a member, if it is done."""

    def keep_evaluation(self, member: K, evaluation: Evaluation) -> None:
        """Note an evaluation; one that failed is not known to the journal of a resumed search, which tries again."""


def search(
    space: Iterable[M],
    cost: Callable[[M], Cost],
    error: Callable[[M], Evaluation | float],
    *,
    epsilon: int = 1,
    maximum: Cost | None = None,
    budgets: Sequence[Bound[M]] = (),
    max_error: float = math.inf,
    workers: Workers | None = None,
    journal: SearchJournal[M] | None = None,
    on_candidate: Callable[[Candidate[M]], None] = lambda candidate: None,
) -> SearchResult[M]:
    """Find the member with the greatest W-coefficient among the first of each block of ε.

    (1) T is the member that costs most. (2, 3) The others are ordered by cost and (4) every ε-th is taken. (5) Each is
    trained for a moment, which gives its error ê. (6) The greatest W = savings / ê wins. ε = 1 tries all members.

    Args:
        space: The members, each different from the others, which can be compared and hashed.
        cost: p̂ and î of a member.
        error: ê of a member, above 0, the least over the hyper-parameter sets that it tries; not finite where all of
            them diverged. Perhaps with more to tell (`Evaluation`).
        epsilon: Members of a block.
        maximum: The cost of a T outside of the space.
        budgets: What members must keep.
        max_error: The greatest ê that the answer may have. Bounds on size alone never keep the smallest member out.
        workers: Where candidates are trained; by default here, one after another.
        journal: Knows what is done.
        on_candidate: Told of each candidate when it is done; first of those that the journal knew, in their order.

    Raises:
        BortError: The space cannot be ordered, no member keeps the budgets, or no candidate keeps `max_error`.
        ValueError: An error is 0 or less.
        Exception: What the first candidate raised, if all of them did.
    """
    ordering = order(space, cost, epsilon=epsilon, maximum=maximum, budgets=budgets)
    result = judge(ordering, error, max_error=max_error, workers=workers, journal=journal, on_candidate=on_candidate)
    result.require(max_error)
    return result


def judge(
    ordering: Ordering[M],
    error: Callable[[M], Evaluation | float],
    *,
    max_error: float = math.inf,
    workers: Workers | None = None,
    journal: SearchJournal[M] | None = None,
    on_candidate: Callable[[Candidate[M]], None] = lambda candidate: None,
) -> SearchResult[M]:
    """Steps 5 and 6 of `search`, on a space in order; an answer that exceeds `max_error` is given all the same."""
    taken = ordering.taken
    candidates: dict[int, Candidate[M]] = {}

    def keep(place: int, evaluation: Evaluation) -> None:
        ranked = taken[place]
        weight = coefficient(ranked.cost, ordering.maximum, evaluation.error)
        within = evaluation.error <= max_error or not math.isfinite(max_error)
        candidates[place] = candidate = Candidate(ranked, evaluation, weight, within)
        if known[ranked.member] is None and journal is not None:
            journal.keep_evaluation(ranked.member, evaluation)
        on_candidate(candidate)

    known = {r.member: None if journal is None else journal.evaluation(r.member) for r in taken}
    for place, ranked in enumerate(taken):
        if (done := known[ranked.member]) is not None:
            keep(place, done)
    # The costliest first: a long one that began last would be waited for by all workers but one.
    left = [place for place in reversed(range(len(taken))) if place not in candidates]
    for result in (workers or InProcess()).map(error, [taken[place].member for place in left]):
        found = Evaluation(math.nan, failure=result.error) if result.error else result.value
        keep(left[result.place], found if isinstance(found, Evaluation) else Evaluation(float(found)))
    in_order = [candidates[place] for place in sorted(candidates)]
    if all(candidate.failed for candidate in in_order) and (failure := in_order[0].evaluation.failure):
        raise failure
    return SearchResult(min(in_order, key=lambda candidate: candidate.standing), in_order, ordering)
