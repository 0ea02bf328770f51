"""`bort extract`: the search applied to text, a teacher and encoders, in the folder of a run."""

from __future__ import annotations

import csv
import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.bounds import validate
from bort.errors import BortError
from bort.files import write_aside
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer, require_special_tokens
from bort.ose.algorithm import SearchResult
from bort.ose.arguments import ExtractArguments
from bort.ose.candidate import CandidateTrial
from bort.ose.criteria import could_win, doublings, savings
from bort.ose.inherited import InheritedEncoder
from bort.ose.journal import ORDER, earlier_seconds, keep_order, training_cost
from bort.ose.logit_lesson import LogitLesson
from bort.ose.metrics import described, figures
from bort.ose.plan import TIMINGS, SearchPlan, make_plan
from bort.ose.report import extract_report
from bort.ose.resolve import lesson_of, outputs_of, training_of, warn_of_another_teacher
from bort.ose.search_run import CANDIDATES, SearchRun
from bort.ose.short_training import Lesson, untrained_error
from bort.ose.space import Shape
from bort.predict.fingerprint import fingerprints_of_models
from bort.progress import say
from bort.runs import Run
from bort.training.randomness import own_randomness
from bort.workers import WHERE_TRIALS_RUN, Needs, Workers, check_workers, open_workers

_FEW = 0.25
"""Share of the members: if fewer could win, the savings decide the search."""
_MAY_CHANGE = ("corpus_processes", "max_error", *WHERE_TRIALS_RUN)


@own_randomness()
def extract(arguments: ExtractArguments, *, workers: Workers | None = None) -> dict[str, Any]:
    """Search for an architecture, write it to `arguments.out`, and return the metrics.

    A killed run continues if it is started again with the same settings and `resume`: timings, the teacher's outputs
    and finished candidates are read from its folder; an unfinished candidate is trained again, with the same result.
    `max_error` may change: the finished candidates are then judged anew.

    Args:
        arguments: Settings of the run.
        workers: Where candidates are trained; by default as the settings say.

    Raises:
        BortError: Invalid settings, a space without a maximum point, a budget that no member satisfies, unreadable
            text, a teacher with another vocabulary, or no candidate with a finite error or within `max_error`.
    """
    validate(arguments)
    check_workers(arguments.workers, Needs.of(arguments))
    vocabulary = arguments.tokenizer or arguments.inherit or arguments.teacher or "bort-nano"
    tokenizer = load_tokenizer(arguments.tokenizer or locate(vocabulary))
    if arguments.resume and _is_finished(Path(arguments.out) / "metrics.json", arguments.max_error):
        run = Run(arguments.out, "extract", arguments, resume=True, may_change=_MAY_CHANGE)
        finished = run.finished()
        assert finished is not None
        if not (run.path / "report.html").is_file():
            _write_page(run, finished)
        return finished
    started = time.monotonic()
    inherited = None if arguments.inherit is None else InheritedEncoder.load(arguments.inherit)
    vocab_size = len(tokenizer) if inherited is None else inherited.config.vocab_size
    plan = make_plan(arguments, vocab_size, inherited, tokenizer.pad_token_id)
    outputs = outputs_of(arguments, plan, inherited)
    require_special_tokens(tokenizer, vocabulary, masks=outputs == "logits")
    run = Run(arguments.out, "extract", arguments, resume=arguments.resume, may_change=_MAY_CHANGE)
    _announce(plan)
    warn_of_another_teacher(arguments, plan.top)
    with nullcontext(workers) if workers else open_workers(arguments.workers, Needs.of(arguments)) as opened:
        assert opened is not None
        lesson = lesson_of(arguments, plan, outputs, inherited, tokenizer, run)
        # Not before: a run whose corpus or teacher cannot be read must not block its folder.
        models = {name: getattr(arguments, name) for name in ("tokenizer", "inherit", "teacher")}
        run.same_data(fingerprints_of_models(**models))
        if plan.costs.timed:
            run.write_json(TIMINGS, plan.costs.timings())
        keep_order(run, plan.ordering)
        trial = CandidateTrial(
            lesson if opened.sees_files else lesson.in_memory(),
            training_of(arguments),
            arguments.learning_rates,
            arguments.rows_per_step * arguments.row_length,
            run.path / CANDIDATES,
            opened.sees_files,
        )
        could = _count_possible_winners(plan, lesson, arguments.seed)
        bound = math.inf if arguments.max_error is None else arguments.max_error
        search = SearchRun(run, plan, trial, opened, bound, arguments.top_k)
        found = search.until_ranks_agree(doublings(arguments.steps, arguments.max_steps), arguments.rank_agreement)
        _require_sound(found.result, arguments)
        answered = found.result.best.within
        if not answered and (run.path / "metrics.json").exists():
            found.result.require(bound)  # before anything of the answer within another bound is deleted
        found = replace(found, could_win=could, repeated=search.repeat(found, arguments.repeats) if answered else {})
        top = search.keep_top(found)
    metrics = described(arguments, plan, outputs, lesson.entropy if isinstance(lesson, LogitLesson) else None)
    metrics |= figures(plan, found, arguments.max_error) | training_cost(run)
    metrics["top"] = top
    if inherited is not None and outputs == "embeddings":
        for name in metrics["top"]:
            inherited.copy_modules(run.path / name)
    metrics["seconds"] = round(earlier_seconds(run) + time.monotonic() - started, 1)
    _write_table(run, metrics["candidates"])
    if not answered:
        _write_page(run, metrics)
    found.result.require(bound)
    best = found.result.best.member
    size = best.vocabulary or vocab_size
    sizes = {"positions": plan.costs.positions, "vocab_size": size, "token_types": plan.costs.token_types}
    run.write_json("architecture.json", {**best._asdict(), **sizes})
    run.write_json("metrics.json", metrics)
    _write_page(run, metrics)
    run.log("finished", best=list(best), coefficient=found.result.best.coefficient)
    return metrics


def _is_finished(metrics: Path, max_error: float | None) -> bool:
    """Whether a run is over; one with failed candidates or another bound is not: they are tried or judged again."""
    try:
        known = json.loads(metrics.read_text("utf-8"))
        return not known["failed"] and known["max_error"] == max_error
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # `Run` says what is wrong with it


def _write_page(run: Run, metrics: dict[str, Any]) -> None:
    run.write_page(extract_report(run.path, metrics, next(run.events(ORDER))))


def _announce(plan: SearchPlan) -> None:
    members, costs = plan.ordering.members, plan.costs
    inside = sum(ranked.block is not None for ranked in members)
    say(
        f"{len(plan.space)} members, {inside} in blocks of {plan.ordering.epsilon}: {len(plan.ordering.taken)} "
        f"candidates; maximum point {plan.top} with {plan.ordering.maximum.parameters:,.0f} parameters"
    )
    if (latency := costs.latency) is not None:
        fit = latency.fit
        say(
            f"inference time by {fit.members} timed members: off by {100 * fit.mean_error:.1f} % on average and "
            f"{100 * fit.worst_error:.1f} % at most where left out, rank correlation {fit.spearman:.3f}"
        )
    if plan.warning:
        say(f"the space lacks the weak AB^nC property: {plan.warning}")


def _count_possible_winners(plan: SearchPlan, lesson: Lesson, seed: int) -> int:
    """Count the members that could win as perfect students, and warn if the savings alone will decide the search."""
    members = [ranked for ranked in plan.ordering.members if ranked.block is not None]
    saved = [savings(ranked.cost, plan.ordering.maximum) for ranked in members]
    most = members[saved.index(max(saved))].member
    count = could_win(saved, lesson.perfect, untrained_error(lesson, most, seed))
    if count < _FEW * len(members):
        say(
            f"only {count} of {len(members)} members could win even as perfect students: the savings will "
            "decide; --error kl lets errors count for more"
        )
    return count


def _require_sound(result: SearchResult[Shape], arguments: ExtractArguments) -> None:
    if not result.best.sound:
        diverged = sum(candidate.diverged for candidate in result.candidates)
        rule = f"all {diverged} candidates diverged; lower --learning-rates"
        if failed := len(result.candidates) - diverged:
            rule = f"{diverged} candidates diverged and {failed} failed (see journal.jsonl); lower --learning-rates"
        raise BortError(rule, setting="learning_rates", value=arguments.learning_rates)


def _write_table(run: Run, rows: list[dict[str, Any]]) -> None:
    with write_aside(run.path / "candidates.csv") as file:
        writer = csv.DictWriter(file, ["rank", *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"rank": rank, **row} for rank, row in enumerate(rows, start=1))
