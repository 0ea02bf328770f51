"""`bort finetune`: the loop with texts, encoders and a teacher, in a run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from bort.agora.asked_teachers import unasked, usage
from bort.agora.checks import check_agora, check_choices, check_one_task, read_pool
from bort.agora.journal import RunClock
from bort.agora.labellers import Function, RememberedTeacher, teacher_scores
from bort.agora.labelling import Labelling
from bort.agora.loop import Source
from bort.agora.nearby import Embedding, Near, identity
from bort.agora.plain_run import fit_head, fit_plainly
from bort.agora.pooled_labels import NOBODY
from bort.agora.rounds import AgoraResult, Point, Round
from bort.agora.session import Session, scored
from bort.agora.teachers import choose_teacher, leaks, nearness_model
from bort.agora.trial import TrainedWeights
from bort.agora.word_model import Language, transforms
from bort.bounds import validate
from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.splits import Splits, read_splits
from bort.model.checkpoints import locate
from bort.progress import console
from bort.runs import Run
from bort.workers import WHERE_TRIALS_RUN, Needs, Workers, check_workers, open_workers

_HOW_A_TEACHER_IS_ASKED = (
    "teacher_key_file",
    "teacher_concurrency",
    "teacher_requests_per_minute",
    "teacher_timeout",
    "teacher_batch",
    "teacher_input_price",
    "teacher_output_price",
    "budget_usd",
)
_MAY_CHANGE = ("checkpoint_minutes", *_HOW_A_TEACHER_IS_ASKED, *WHERE_TRIALS_RUN)


def finetune(
    arguments: FinetuneArguments,
    *,
    teacher: Function | None = None,
    embedding: Embedding | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Fine-tune by Agora or plainly, write the model to `arguments.out`, and return the figures.

    Killed at any time, a run of the same settings with `resume` goes on: finished trials and labelled texts are read
    from the journal, an unfinished trial from its last checkpoint.

    Args:
        arguments: Settings.
        teacher: A function that labels, instead of the teacher that the settings name.
        embedding: Says how near texts are, instead of the teacher's encoder or the student's own.
        workers: Where trials run; by default where the settings say.

    Raises:
        BortError: Bad settings, data, model or teacher.
    """
    validate(arguments)
    check_one_task(arguments)
    agora = arguments.method == "agora"
    check_choices(arguments)
    if agora:
        check_agora(arguments, teacher)
    needs = Needs.of(arguments)
    check_workers(arguments.workers, needs)
    data = read_splits(arguments, hold_out=agora)
    pool = read_pool(arguments.unlabelled, arguments, data) if agora and arguments.unlabelled else []
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=_MAY_CHANGE)
    if (metrics := run.finished()) is not None:
        return metrics
    with open_workers(arguments.workers, needs) if workers is None else contextlib.nullcontext(workers) as opened:
        session = Session(arguments, run, data, opened, RunClock(run, arguments.budget_minutes))
        if agora:
            return fit_growing(session, pool, teacher, embedding)
        return fit_head(session) if arguments.method == "head" else fit_plainly(session)


def fit_growing(
    session: Session, pool: Sequence[Example], function: Function | None, embedding: Embedding | None
) -> dict[str, Any]:
    """Go round after round on data that grow, keep the best model of all, and describe it.

    Args:
        session: A run that is begun or resumed.
        pool: Texts without labels.
        function: Labels, instead of the teacher that the settings name.
        embedding: Says how near texts are, instead of the teacher's encoder or the student's own.
    """
    arguments, data, task = session.arguments, session.data, session.task
    opened = cache(Embedding)  # an encoder that teaches and says what is near is opened once
    chosen = choose_teacher(arguments, data, function, opened, lambda model: _fine_tuned_teacher(session, model))
    session.run.log("teacher", name=chosen.name, elapsed=session.clock.elapsed)
    teacher = RememberedTeacher(chosen, task, session.journal.folder / "teacher.jsonl")
    labelling = Labelling(arguments, task, teacher, data.dev, session.learner.logits)
    labelling.announce()
    leaked = leaks(arguments, data)
    findings = [f"the teacher was fitted to {count} of the {part} texts, at least" for part, count in leaked.items()]
    for finding in findings:
        console().print(finding, soft_wrap=True)
    near = Near(
        transforms(arguments.transforms, lambda: Language(arguments.transform_model))
        if arguments.points_per_mistake
        else {},
        made=arguments.points_per_mistake,
        embedding=embedding or opened(nearness_model(arguments, function)),
        bounds=(arguments.min_cosine, arguments.max_cosine),
        pool=pool,
        found=arguments.unlabelled_per_mistake,
    )
    test = data.test or []
    forbidden = {*map(identity, test)}
    result = session.fit(Source(near, labelling, identity, forbidden, labelling.worth_learning))
    plain, model = session.open(result.rounds[0].winner), session.open(result.best)
    metrics = session.metrics(result, model)
    metrics["findings"] = [*findings, *metrics["findings"]]
    metrics["plain"] = session.scores(plain)
    metrics["teacher"] = {
        "name": teacher.name,
        "weak": labelling.weak,
        "taught": result.taught,
        "fitted_to": leaked,
        **scored("dev", labelling.dev_scores),
        # Only now: what is asked of a teacher costs, and nothing before may depend on the test.
        **scored("test", teacher_scores(task, teacher(test), task.targets(test))),
    }
    metrics["teacher"] |= usage(chosen)
    metrics["findings"] += unasked(chosen)
    weights = labelling.weights(result.rounds[0]) if result.taught else NOBODY
    metrics["label_weights"] = weights._asdict()
    metrics["train_labels"] = _label_counts(session, result.train)
    metrics["rounds"] = [_described(session, done) for done in result.rounds]
    metrics["seconds"] = session.clock.elapsed
    _write_pages(session, metrics, result)
    session.finish(metrics, model)
    return metrics


def _fine_tuned_teacher(session: Session, model: str) -> str:
    """Fine-tune an encoder over the teacher's learning rates, in a run of its own, and give its folder.

    One seed, weight decay, warm-up and batch size are enough: a teacher is large, and a fit of it takes minutes.
    """
    arguments, data = session.arguments, session.data
    folder = session.run.path / "teacher"
    console().print(f"fine-tuning the teacher {model} first")
    settings = replace(
        arguments,
        method="plain",
        model=model,
        out=str(folder),
        learning_rates=arguments.teacher_learning_rates,
        seeds=arguments.seeds[:1],
        weight_decays=arguments.weight_decays[:1],
        warmups=arguments.warmups[:1],
        batch_sizes=arguments.batch_sizes[:1],
        resume=True,
    )
    suite = replace(data.suite, rows={"dev": data.suite.rows["dev"]}) if data.suite else None
    splits = Splits(data.train, data.dev, None, data.task, suite=suite)
    run = Run(folder, "finetune", settings, resume=True, may_change=_MAY_CHANGE)
    if run.finished() is None:
        fit_plainly(Session(settings, run, splits, session.workers, session.clock))
    return str(folder)


def _write_pages(session: Session, metrics: dict[str, Any], result: AgoraResult[TrainedWeights]) -> None:
    from bort.agora.report import agora_report, model_card

    agora_report(session.run, session.arguments, metrics, result, session.data, metrics["confusion"])
    with write_aside(session.run.path / "README.md") as file:
        file.write(model_card(session.arguments, metrics))


def _described(session: Session, done: Round[TrainedWeights]) -> dict[str, Any]:
    growth = done.growth
    return {
        "round": done.number,
        "replayed": done.replayed,
        "trials": [{"theta": session.display.short(trial.theta), "score": trial.score} for trial in done.trials],
        "best": done.best,
        "train_size": done.train_size,
        "mistakes": len(done.mistakes),
        "made": growth.made,
        "kept": len(growth.points),
        "dropped": growth.dropped,
        "labels": _label_counts(session, growth.points),
        "pruned": done.pruned,
        "failed": done.failed,
    }


def _label_counts(session: Session, points: Sequence[Point]) -> dict[str, int]:
    """How many points have each class as their likeliest."""
    task = session.task
    if not task.names:
        return {}
    likeliest = [int(np.argmax(p.y)) if isinstance(p.y, tuple) else int(p.y) for p in points]
    counts = np.bincount(np.array(likeliest, dtype=np.int64), minlength=task.outputs)
    return dict(zip(task.names, counts.tolist(), strict=True))
