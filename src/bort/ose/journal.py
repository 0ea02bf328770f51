"""The journal of a search in the folder of a run: a resumed search does not repeat finished work."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any

from bort.ose.algorithm import Evaluation
from bort.ose.candidate import told_error
from bort.ose.ordering import Ordering
from bort.ose.space import Shape
from bort.runs import Run, readable_events
from bort.workers import Workers, raised

ORDER, CANDIDATE, REPEAT, FAILED = "order", "candidate", "repeat", "failed"


class StepsJournal:
    """The `bort.ose.algorithm.SearchJournal` of a search with a certain number of steps.

    Args:
        run: The run whose journal it is.
        steps: Training steps per candidate.
        event: Name of the events: those of the search itself, or of its repetition with another seed.
    """

    def __init__(self, run: Run, steps: int, event: str = CANDIDATE) -> None:
        self.run, self.steps, self.event = run, steps, event
        self._known = {
            Shape(*known["shape"]): Evaluation(_number(known["error"]), known["about"])
            for known in run.events(event)
            if known["steps"] == steps
        }

    def evaluation(self, member: Shape) -> Evaluation | None:
        """The recorded evaluation of a member, if there is one."""
        return self._known.get(member)

    def keep_evaluation(self, member: Shape, evaluation: Evaluation) -> None:
        """Record an evaluation, or a failure with its traceback."""
        about = {"shape": list(member), "steps": self.steps}
        if (failure := evaluation.failure) is None:
            self.run.log(self.event, **about, error=told_error(evaluation.error), about=evaluation.about)
        else:
            told = "".join(traceback.format_exception(failure))
            self.run.log(FAILED, **about, error=raised(failure), message=str(failure), traceback=told)

    def errors(self, members: list[Shape], trial: Callable[[Shape], Evaluation], workers: Workers) -> list[float]:
        """ê of members, from the journal or by training them now; NaN if a training raised an exception."""
        known = {member: self.evaluation(member) for member in members}
        left = [member for member in members if known[member] is None]
        for result in workers.map(trial, left):
            found = Evaluation(math.nan, failure=result.error) if result.error else result.value
            self.keep_evaluation(left[result.place], found)
            known[left[result.place]] = found
        return [math.nan if (found := known[member]) is None else found.error for member in members]


def keep_order(run: Run, ordering: Ordering[Shape]) -> None:
    """Record the order of the space once, for the report."""
    if next(run.events(ORDER), None) is None:
        members = [[list(r.member), *r.cost, r.block, r.taken] for r in ordering.members]
        run.log(ORDER, members=members, maximum=list(ordering.maximum))


def training_cost(run: Run) -> dict[str, Any]:
    """Seconds and tokens of all trainings of a search, for `metrics.json`.

    They include those with fewer steps than the last, and those from another seed.
    """
    told = [event["about"] for name in (CANDIDATE, REPEAT) for event in run.events(name)]
    return {
        "training_seconds": round(sum(about.get("seconds", 0.0) for about in told), 1),
        "training_tokens": sum(about.get("tokens", 0) for about in told),
    }


def earlier_seconds(run: Run) -> float:
    """Seconds of the earlier parts of a resumed search, by its journal."""
    parts: list[list[float]] = []
    for event in readable_events(run.journal_path):
        if event["event"] in ("started", "resumed"):
            parts.append([])
        parts[-1].append(event["time"])
    return sum(times[-1] - times[0] for times in parts[:-1])


def _number(error: float | None) -> float:
    return math.nan if error is None else error
