"""`bort extract`: the search with text, a teacher and encoders, in a run's folder."""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bort.bounds import validate
from bort.errors import BortError
from bort.files import write_aside
from bort.model.checkpoints import load_config, locate
from bort.model.devices import describe, use_bf16
from bort.model.tokenization import load_tokenizer
from bort.ose.algorithm import Candidate, Evaluation, SearchResult, search
from bort.ose.arguments import ExtractArguments
from bort.ose.candidate import LEAST_ERROR, Training, told_error
from bort.ose.criteria import could_win, decision, front, savings
from bort.ose.display import SearchDisplay, display
from bort.ose.plan import TIMINGS, SearchPlan, make_plan, timings
from bort.ose.report import extract_report
from bort.ose.short_training import Surrogate
from bort.ose.space import Shape
from bort.ose.targets import Targets
from bort.pretraining.run_corpus import tokenised
from bort.progress import console
from bort.runs import Run
from bort.workers import WHERE_TRIALS_RUN, Needs, Received, Workers, check_workers, open_workers, raised

CANDIDATES, TOP = "candidates", "top"
_FEW = 0.25
"""Of the members: where fewer could win, savings decide the search."""
_MAY_CHANGE = ("corpus_processes", *WHERE_TRIALS_RUN)


def extract(arguments: ExtractArguments, *, workers: Workers | None = None) -> dict[str, Any]:
    """Search for an architecture, write it to `arguments.out`, and return the figures.

    Killed at any time, a run of the same settings with `resume` goes on: timings, the teacher's outputs and finished
    candidates are read from its folder, an unfinished candidate is trained again, to the same answer.

    Args:
        arguments: Settings.
        workers: Where candidates are trained; by default where the settings say.

    Raises:
        BortError: Bad settings, a space without a maximum point, a budget that no member keeps, unreadable text, a
            teacher of another vocabulary, or no candidate that did not diverge.
    """
    validate(arguments)
    check_workers(arguments.workers, Needs.of(arguments))
    tokenizer = load_tokenizer(locate(arguments.tokenizer or arguments.teacher or "bort-nano"))
    before = Path(arguments.out) / "metrics.json"
    # Candidates that failed are tried again.
    if arguments.resume and before.is_file() and not json.loads(before.read_text("utf-8"))["failed"]:
        finished = Run(arguments.out, "extract", arguments, resume=True, may_change=_MAY_CHANGE).finished()
        assert finished is not None
        return finished
    plan = make_plan(arguments, len(tokenizer))
    run = Run(arguments.out, "extract", arguments, resume=arguments.resume, may_change=_MAY_CHANGE)
    if plan.costs.timed:
        run.write_json(TIMINGS, timings(plan, arguments))
    extraction = _Extraction(arguments, run, plan, tokenizer)
    if workers is not None:
        return extraction.run_search(workers)
    with open_workers(arguments.workers, Needs.of(arguments)) as opened:
        return extraction.run_search(opened)


class _Journal:
    """The search's journal in a run's folder."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known = {
            Shape(*event["shape"]): Evaluation(_number(event["error"]), event["about"])
            for event in run.events("candidate")
        }

    def evaluation(self, member: Shape) -> Evaluation | None:
        """As of the search's."""
        return self._known.get(member)

    def keep_evaluation(self, member: Shape, evaluation: Evaluation) -> None:
        """As of the search's."""
        if (failure := evaluation.failure) is None:
            error = told_error(evaluation.error)
            self._run.log("candidate", shape=list(member), error=error, about=evaluation.about)
        else:
            told = "".join(traceback.format_exception(failure))
            self._run.log("failed", shape=list(member), error=raised(failure), message=str(failure), traceback=told)


def _number(error: float | None) -> float:
    return math.nan if error is None else error


class _Extraction:
    """One run."""

    def __init__(
        self, arguments: ExtractArguments, run: Run, plan: SearchPlan, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        self.arguments, self.run, self.plan, self.tokenizer = arguments, run, plan, tokenizer
        self.started = time.monotonic()
        self.candidates: list[Candidate[Shape]] = []
        self.display: SearchDisplay | None = None
        self.entropy = 0.0
        self.could_win = 0

    def run_search(self, workers: Workers) -> dict[str, Any]:
        """Tokenise, ask the teacher, train the candidates, and write what was found."""
        arguments, plan = self.arguments, self.plan
        self._announce()
        corpus = tokenised(
            arguments.corpus,
            self.tokenizer,
            arguments.corpus_cache,
            valid_share=arguments.valid_share,
            run=self.run,
            encoders=arguments.corpus_processes,
        )
        folder = Path(arguments.teacher_cache or self.run.path / "teacher")
        surrogate = Targets(arguments, plan, corpus, self.tokenizer, folder).surrogate()
        self.entropy = surrogate.entropy()
        self._check_who_could_win(surrogate)
        training = Training(
            arguments,
            plan.costs,
            self.tokenizer,
            surrogate if workers.sees_files else surrogate.in_memory(),
            self.entropy,
            self.run.path / CANDIDATES,
            workers.sees_files,
            self._step,
        )
        with display(len(plan.ordering.taken), plan.costs.unit) as self.display:
            outcome = search(
                plan.space,
                plan.costs,
                training,
                epsilon=arguments.epsilon,
                maximum=plan.ordering.maximum,
                budgets=plan.budgets,
                max_error=math.inf if arguments.max_error is None else arguments.max_error,
                workers=Received(workers, training.receive),
                journal=_Journal(self.run),
                on_candidate=self._candidate_is_done,
            )
        if not outcome.best.sound:
            diverged = sum(candidate.diverged for candidate in outcome.candidates)
            rule = f"all {diverged} candidates diverged; lower --learning-rates"
            if failed := len(outcome.candidates) - diverged:
                rule = f"{diverged} candidates diverged and {failed} failed (see journal.jsonl); lower --learning-rates"
            raise BortError(rule, setting="learning_rates", value=arguments.learning_rates)
        return self._finish(outcome)

    def _announce(self) -> None:
        arguments = self.arguments
        plan, taken = self.plan, len(self.plan.ordering.taken)
        inside = sum(ranked.block is not None for ranked in plan.ordering.members)
        console().print(
            f"{len(plan.space)} members, {inside} in blocks of {self.arguments.epsilon}: {taken} candidates; maximum "
            f"point {plan.top} with {plan.ordering.maximum.parameters:,.0f} parameters",
            soft_wrap=True,
        )
        if (latency := plan.costs.latency) is not None:
            fit = latency.fit
            console().print(
                f"inference time by {fit.members} timed members: off by {100 * fit.mean_error:.1f} % on average and "
                f"{100 * fit.worst_error:.1f} % at most where left out, rank correlation {fit.spearman:.3f}",
                soft_wrap=True,
            )
        if plan.warning:
            console().print(f"the space lacks the weak AB^nC property: {plan.warning}", soft_wrap=True)

        if arguments.teacher is not None:
            theirs = load_config(arguments.teacher)
            names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
            own = tuple(getattr(theirs, name, None) for name in names)
            if own != plan.top:
                shown = ",".join(map(str, own))
                console().print(
                    f"the teacher is ⟨{shown}⟩, the maximum point {plan.top}: savings are counted beside one model and "
                    f"errors beside another; --maximum {shown} makes them agree",
                    soft_wrap=True,
                )

    def _check_who_could_win(self, surrogate: Surrogate) -> None:
        """Count the members that could win as perfect students, and warn of a search that savings alone will decide."""
        members = [ranked for ranked in self.plan.ordering.members if ranked.block is not None]
        saved = [savings(ranked.cost, self.plan.ordering.maximum) for ranked in members]
        most = members[saved.index(max(saved))].member
        config = self.plan.costs.config(most, self.tokenizer.pad_token_id)
        untrained = surrogate.untrained(config)
        perfect = self.entropy if self.arguments.error == "cross_entropy" else LEAST_ERROR
        if self.arguments.error == "kl":
            untrained = max(untrained - self.entropy, LEAST_ERROR)
        self.could_win = could_win(saved, perfect, untrained)
        if self.could_win < _FEW * len(members):
            console().print(
                f"only {self.could_win} of {len(members)} members could win even as perfect students: the savings will "
                "decide; --error kl lets errors count for more",
                soft_wrap=True,
            )

    def _step(self, shape: Shape, step: int, loss: float) -> None:
        if self.display is not None:
            self.display.training(shape, f"step {step} of {self.arguments.steps}, distance {loss:.3f}")

    def _candidate_is_done(self, candidate: Candidate[Shape]) -> None:
        """Show it, and keep no more checkpoints than will be wanted."""
        self.candidates.append(candidate)
        if self.display is not None:
            self.display.done(candidate)
        for other in self._ranking(self.candidates)[self.arguments.top_k :]:
            shutil.rmtree(self.run.path / CANDIDATES / other.member.name, ignore_errors=True)

    def _ranking(self, candidates: list[Candidate[Shape]]) -> list[Candidate[Shape]]:
        return sorted(candidates, key=lambda candidate: candidate.standing)

    def _finish(self, outcome: SearchResult[Shape]) -> dict[str, Any]:
        folders = self._keep_top([candidate.member for candidate in outcome.ranking if candidate.sound])
        metrics = self._metrics(outcome, folders)
        self._write_table(metrics["candidates"])
        best = outcome.best.member
        self.run.write_json(
            "architecture.json",
            {**best._asdict(), "positions": self.arguments.positions, "vocab_size": len(self.tokenizer)},
        )
        extract_report(self.run, self.arguments, self.plan, outcome, metrics)
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", best=list(best), coefficient=outcome.best.coefficient)
        return metrics

    def _keep_top(self, ranking: list[Shape]) -> list[str]:
        """Move the best checkpoints to folders that tell their ranks, which may be others than in an earlier finish."""
        top, left = self.run.path / TOP, self.run.path / CANDIDATES
        left.mkdir(exist_ok=True)
        for folder in top.glob("*"):
            folder.rename(left / folder.name.partition("-")[2])
        top.mkdir(exist_ok=True)
        folders = []
        for rank, shape in enumerate(ranking[: self.arguments.top_k], start=1):
            folders.append(f"{TOP}/{rank}-{shape.name}")
            (left / shape.name).rename(self.run.path / folders[-1])
        shutil.rmtree(left)
        return folders

    def _metrics(self, outcome: SearchResult[Shape], folders: list[str]) -> dict[str, Any]:
        plan, arguments = self.plan, self.arguments
        points = [(*c.ranked.cost, c.error) for c in outcome.candidates]
        on_front = set(front(points))
        rows = {
            place: {
                **candidate.member._asdict(),
                "parameters": int(candidate.ranked.cost.parameters),
                "time": candidate.ranked.cost.time,
                "error": told_error(candidate.error),
                "savings": savings(candidate.ranked.cost, plan.ordering.maximum),
                "coefficient": candidate.coefficient,
                "diverged": candidate.diverged,
                "failed": None if (failure := candidate.evaluation.failure) is None else raised(failure),
                "pareto": place in on_front,
                "block": candidate.ranked.block,
                "place": candidate.ranked.place,
                "learning_rate": _rate(candidate),
                "seconds": candidate.evaluation.about.get("seconds", 0.0),
            }
            for place, candidate in enumerate(outcome.candidates)
        }
        numbers = {candidate.member: place for place, candidate in enumerate(outcome.candidates)}
        ranked = [rows[numbers[candidate.member]] for candidate in outcome.ranking]
        sound = [candidate for candidate in outcome.candidates if candidate.sound]
        by_w = max(sound, key=lambda candidate: candidate.coefficient).member
        decided = decision(
            [savings(candidate.ranked.cost, plan.ordering.maximum) for candidate in sound],
            [candidate.error for candidate in sound],
        )
        seconds = sum(row["seconds"] for row in ranked)
        latency = plan.costs.latency
        return {
            "architecture": outcome.best.member._asdict(),
            "coefficient": outcome.best.coefficient,
            "error": outcome.best.error,
            "error_kind": arguments.error,
            "teacher_entropy": self.entropy,
            "teacher": arguments.teacher or f"{plan.top} with random weights, seed {arguments.seed}",
            "maximum": {**plan.top._asdict(), **plan.ordering.maximum._asdict()},
            "time_unit": plan.costs.unit,
            "latency": None if latency is None else latency.described(),
            "members": len(plan.space),
            "in_blocks": sum(ranked.block is not None for ranked in plan.ordering.members),
            "epsilon": arguments.epsilon,
            "kept_savings": plan.ordering.kept_savings,
            "roughness": outcome.roughness,
            "guarantee_by_roughness": plan.ordering.guarantee(outcome.roughness),
            "front": [row for row in ranked if row["pareto"]],
            "by_w_alone": by_w._asdict(),
            "max_error": arguments.max_error,
            "decision": vars(decided),
            "could_win_as_perfect_students": self.could_win,
            "weak_abnc": plan.warning or "holds",
            "optimizer": arguments.optimizer,
            "clip_weights": arguments.clip_weights,
            "diverged": sum(candidate.diverged for candidate in outcome.candidates),
            "failed": sum(candidate.failed for candidate in outcome.candidates),
            "training_seconds": round(seconds, 1),
            "training_tokens": sum(candidate.evaluation.about.get("tokens", 0) for candidate in outcome.candidates),
            "all_members_seconds": round(seconds / len(ranked) * (len(plan.space) - 1), 1),
            "seconds": round(time.monotonic() - self.started, 1),
            "device": describe(),
            "precision": "bf16" if use_bf16(arguments.precision) else "fp32",
            "top": folders,
            "candidates": ranked,
        }

    def _write_table(self, rows: list[dict[str, Any]]) -> None:
        with write_aside(self.run.path / "candidates.csv") as file:
            writer = csv.DictWriter(file, ["rank", *rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"rank": rank, **row} for rank, row in enumerate(rows, start=1))


def _rate(candidate: Candidate[Shape]) -> float | None:
    """The learning rate that gave the error."""
    sound = [trial for trial in candidate.evaluation.about.get("trials", ()) if trial["error"] is not None]
    return min(sound, key=lambda trial: trial["error"])["learning_rate"] if sound else None
