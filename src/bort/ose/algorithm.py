"""Optimal subarchitecture extraction: the search algorithm (arXiv 2010.08512).

Nothing here depends on neural networks: a member's cost and its error after a short training are given as functions.
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
    """The evaluation of a member.

    Args:
        error: ê; not finite if the training diverged or failed.
        about: Further details of the training, as JSON values.
        failure: The exception that the training raised, if any.
    """

    error: float
    about: dict[str, Any] = field(default_factory=dict)
    failure: Exception | None = None


@dataclass(frozen=True)
class Candidate(Generic[M]):
    """A member chosen for evaluation, with its ê and its W; without a finite error, W = 0."""

    ranked: Ranked[M]
    evaluation: Evaluation
    coefficient: float
    within: bool = True
    """Whether its error is within the bound on errors, if there is one."""

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
        """Whether its training raised an exception, so that its error is unknown."""
        return self.evaluation.failure is not None

    @property
    def diverged(self) -> bool:
        """Whether its training ended without an exception but with an error that is not finite."""
        return not self.failed and not self.sound

    @property
    def standing(self) -> tuple[bool, bool, float, int]:
        """Sort key that puts the best candidates first."""
        return not self.within, not self.sound, -self.coefficient, self.ranked.place

    @property
    def sound(self) -> bool:
        """Whether its error is finite."""
        return math.isfinite(self.evaluation.error)


@dataclass(frozen=True)
class SearchResult(Generic[M]):
    """The result of a search.

    Args:
        best: The first of `ranking`.
        candidates: All candidates, in the order of the space.
        ordering: The whole space in order.
    """

    best: Candidate[M]
    candidates: list[Candidate[M]]
    ordering: Ordering[M]

    @property
    def ranking(self) -> list[Candidate[M]]:
        """The candidates by decreasing W, those within the bound on errors first; ties keep the order of the space."""
        return sorted(self.candidates, key=lambda candidate: candidate.standing)

    def require(self, max_error: float) -> None:
        """Raise an error if the best candidate is not within the bound on errors.

        Raises:
            BortError: No candidate is within the bound; the message names the nearest, if any has a finite error.
        """
        if self.best.within:
            return
        rule = "no candidate keeps the bound, as none has a finite error"
        if sound := [candidate for candidate in self.candidates if candidate.sound]:
            nearest = min(sound, key=lambda candidate: candidate.error)
            rule = f"no candidate keeps the bound; the nearest, {nearest.member}, has {nearest.error:.4g}"
            rule += "; train longer, or raise --max-error"
        raise BortError(rule, setting="max_error", value=max_error)

    @property
    def roughness(self) -> float:
        """A lower bound of L: the steepest slope of ln ê between consecutive candidates, per place."""
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
    """Records evaluations, so that a resumed search does not repeat them."""

    def evaluation(self, member: K) -> Evaluation | None:
        """The recorded evaluation of a member, if there is one."""

    def keep_evaluation(self, member: K, evaluation: Evaluation) -> None:
        """Record an evaluation; the journal of a resumed search omits failed ones, so that they are tried again."""


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
    """Find the member with the greatest W-coefficient among the first members of all blocks of ε.

    (1) T is the member with the highest cost. (2, 3) The others are sorted by cost and (4) every ε-th is chosen. (5) A
    short training of each gives its error ê. (6) The greatest W = savings / ê wins. ε = 1 tries all members.

    Args:
        space: The members, which must be distinct, comparable and hashable.
        cost: Returns p̂ and î of a member.
        error: Returns ê of a member, above 0: the lowest over the hyper-parameter sets that it tries; not finite if all
            of them diverged. May return an `Evaluation` with more details.
        epsilon: Members per block.
        maximum: The cost of T, if T is not in the space.
        budgets: Bounds that members must satisfy.
        max_error: The greatest ê that the answer may have. Bounds on size alone never exclude the smallest member.
        workers: Where candidates are trained; by default sequentially in this process.
        journal: Records evaluations.
        on_candidate: Called with each evaluated candidate; first with those from the journal, in order.

    Raises:
        BortError: The space cannot be ordered, no member satisfies the budgets, or no candidate is within `max_error`.
        ValueError: An error is 0 or less.
        Exception: The first candidate's exception, if all candidates raised one.
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
    """Run steps 5 and 6 of `search` on an ordered space; the answer may exceed `max_error`."""
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
    # The most expensive first: if a long training started last, all other workers would wait for it.
    left = [place for place in reversed(range(len(taken))) if place not in candidates]
    for result in (workers or InProcess()).map(error, [taken[place].member for place in left]):
        found = Evaluation(math.nan, failure=result.error) if result.error else result.value
        keep(left[result.place], found if isinstance(found, Evaluation) else Evaluation(float(found)))
    in_order = [candidates[place] for place in sorted(candidates)]
    if all(candidate.failed for candidate in in_order) and (failure := in_order[0].evaluation.failure):
        raise failure
    return SearchResult(min(in_order, key=lambda candidate: candidate.standing), in_order, ordering)
