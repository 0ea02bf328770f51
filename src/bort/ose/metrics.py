"""The figures of a search, for `metrics.json`, the table of candidates and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from bort.model.devices import describe, use_bf16
from bort.ose.algorithm import Candidate, SearchResult
from bort.ose.arguments import ExtractArguments
from bort.ose.candidate import told_error
from bort.ose.criteria import decision, front, is_level, noise_band, rank_agreement, savings
from bort.ose.plan import SearchPlan
from bort.ose.space import Shape
from bort.workers import raised


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Args:
        result: The result after the last number of steps.
        steps: That number.
        agreements: Rank correlation of the errors with those after half as many steps, by number of steps.
        repeated: ê of some candidates from two seeds.
        could_win: Number of members that could have won as perfect students.
    """

    result: SearchResult[Shape]
    steps: int
    agreements: dict[int, float | None]
    repeated: dict[Shape, tuple[float, float]]
    could_win: int

    @property
    def band(self) -> float | None:
        """The noise band of ln ê."""
        return noise_band(list(self.repeated.values()))


def described(
    arguments: ExtractArguments, plan: SearchPlan, outputs: str, teacher_entropy: float | None
) -> dict[str, Any]:
    """How candidates were trained, for the report.

    Args:
        arguments: Settings of the run.
        plan: Plan of the search.
        outputs: `logits` or `embeddings`.
        teacher_entropy: Entropy of the teacher's predictions in nats, if logits are learned.
    """
    return {
        "error_kind": "1 - cosine" if outputs == "embeddings" else arguments.error,
        "teacher_entropy": teacher_entropy,
        "teacher": arguments.teacher or arguments.inherit or f"{plan.top} with random weights, seed {arguments.seed}",
        "inherited": arguments.inherit,
        "outputs": outputs,
        "rows_per_step": arguments.rows_per_step,
        "row_length": arguments.row_length,
        "learning_rates": arguments.learning_rates,
        "optimizer": arguments.optimizer,
        "clip_weights": arguments.clip_weights,
        "device": describe(),
        "precision": "bf16" if use_bf16(arguments.precision) else "fp32",
    }


def figures(plan: SearchPlan, found: Found, max_error: float | None) -> dict[str, Any]:
    """What a search found, and what decided it.

    Args:
        plan: Plan of the search.
        found: Its outcome.
        max_error: The bound on the error of the answer, if any.
    """
    outcome, top = found.result, plan.ordering.maximum
    sound = [candidate for candidate in outcome.candidates if candidate.sound]
    decided = decision([savings(c.ranked.cost, top) for c in sound], [c.error for c in sound])
    rows = candidate_rows(plan, found)
    latency = plan.costs.latency
    timed = [[list(shape), ms, plan.costs.latency_ms(shape)] for shape, ms in plan.costs.timed.items()]
    return {
        "architecture": outcome.best.member._asdict(),
        "coefficient": outcome.best.coefficient,
        "error": outcome.best.error,
        "maximum": {**plan.top._asdict(), **top._asdict()},
        "time_unit": plan.costs.unit,
        "latency": None if latency is None else {**latency.described(), "timed": timed},
        "members": len(plan.space),
        "in_blocks": sum(ranked.block is not None for ranked in plan.ordering.members),
        "epsilon": plan.ordering.epsilon,
        "kept_savings": plan.ordering.kept_savings,
        "roughness": outcome.roughness,
        "guarantee_by_roughness": plan.ordering.guarantee(outcome.roughness),
        "front": [row for row in rows if row["pareto"]],
        "by_w_alone": max(sound, key=lambda candidate: candidate.coefficient).member._asdict(),
        "max_error": max_error,
        "decision": vars(decided),
        "untrained_rank_correlation": _untrained_agreement(sound),
        "could_win_as_perfect_students": found.could_win,
        "steps": found.steps,
        "agreement_with_half_the_steps": {str(steps): rank for steps, rank in found.agreements.items()},
        "noise": {
            "band": found.band,
            "repeated": [
                {"shape": list(shape), "errors": list(map(told_error, errors))}
                for shape, errors in found.repeated.items()
            ],
        },
        "level": [row_name(row) for row in rows if row["level"]],
        "weak_abnc": plan.warning or "holds",
        "diverged": sum(candidate.diverged for candidate in outcome.candidates),
        "failed": sum(candidate.failed for candidate in outcome.candidates),
        "all_members_seconds": round(mean(row["seconds"] for row in rows) * (len(plan.space) - 1), 1),
        "candidates": rows,
    }


def candidate_rows(plan: SearchPlan, found: Found) -> list[dict[str, Any]]:
    """The candidates, best first."""
    outcome, top, band = found.result, plan.ordering.maximum, found.band
    on_front = set(front([(*c.ranked.cost, c.error) for c in outcome.candidates]))
    places = {candidate.member: place for place, candidate in enumerate(outcome.candidates)}
    return [
        {
            **candidate.member._asdict(),
            "parameters": int(candidate.ranked.cost.parameters),
            "time": candidate.ranked.cost.time,
            "error": told_error(candidate.error),
            "untrained_error": candidate.evaluation.about.get("untrained_error"),
            "savings": savings(candidate.ranked.cost, top),
            "coefficient": candidate.coefficient,
            "level": band is not None
            and candidate.within
            and is_level(candidate.coefficient, outcome.best.coefficient, band),
            "diverged": candidate.diverged,
            "failed": None if (failure := candidate.evaluation.failure) is None else raised(failure),
            "pareto": places[candidate.member] in on_front,
            "block": candidate.ranked.block,
            "place": candidate.ranked.place,
            "learning_rate": _rate(candidate),
            "seconds": candidate.evaluation.about.get("seconds", 0.0),
        }
        for candidate in outcome.ranking
    ]


def row_name(row: dict[str, Any]) -> str:
    """The numbers of a candidate or of T, separated by commas."""
    return ",".join(map(str, Shape.of(row)))


def is_answered(metrics: dict[str, Any]) -> bool:
    """Whether the best candidate is within the bound on errors, if there is one."""
    bound, error = metrics["max_error"], metrics["candidates"][0]["error"]
    return bound is None or (error is not None and error <= bound)


def standing(metrics: dict[str, Any]) -> str:
    """What the first candidate is, in words."""
    return "found" if is_answered(metrics) else "greatest W"


def _rate(candidate: Candidate[Shape]) -> float | None:
    """The learning rate with the lowest error."""
    sound = [trial for trial in candidate.evaluation.about.get("trials", ()) if trial["error"] is not None]
    return min(sound, key=lambda trial: trial["error"])["learning_rate"] if sound else None


def _untrained_agreement(candidates: Sequence[Candidate[Shape]]) -> float | None:
    """Rank correlation of the errors before and after training; None if members start from random weights."""
    before = [candidate.evaluation.about.get("untrained_error") for candidate in candidates]
    told = [math.nan if error is None else float(error) for error in before]
    return rank_agreement(told, [candidate.error for candidate in candidates])
