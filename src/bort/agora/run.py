"""`bort finetune`: the loop on texts, with encoders and a teacher, in a run's folder."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.asked_teachers import chosen_generator, keeps_answers, unasked, usage
from bort.agora.averaging import averaged, beside_plain
from bort.agora.checks import check_agora, check_choices, check_one_task, read_pool
from bort.agora.examples import examples_of
from bort.agora.general_pool import Found, beside, check_general_pool, open_general_pool
from bort.agora.generators import Generator
from bort.agora.journal import RunClock, remove_leftovers
from bort.agora.labellers import Function, HeadTeacher, RememberedTeacher, Teacher, teacher_scores
from bort.agora.labelling import Labelling
from bort.agora.last_labels import Taught, last_training_data, weights_of_labels
from bort.agora.last_trainings import (
    LastTraining,
    grown_model,
    has_time,
    mean_prediction,
    passes,
    plain_models,
    without_last_training,
)
from bort.agora.loop import Source
from bort.agora.model_choice import clearly_improves, preferring_grown
from bort.agora.nearby import Embedding, Near
from bort.agora.plain_run import compare, fit_head, fit_plainly, head_result
from bort.agora.pooled_labels import NOBODY
from bort.agora.report import agora_report, model_card
from bort.agora.rounds import AgoraResult, DivergedError, NoModelError, OutOfTimeError, Point, Round
from bort.agora.session import Session, scored
from bort.agora.softened_labels import opinions_help
from bort.agora.teachers import TeacherPair, choose_teacher, leaks, nearness_model
from bort.agora.trial import TrainedWeights
from bort.agora.word_model import Language, transforms
from bort.bounds import validate
from bort.data.index.layout import NAME
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.data.tables.labels import shown_label
from bort.errors import flag
from bort.files import write_aside
from bort.finetuning.arguments import AS_PUBLISHED, FinetuneArguments
from bort.finetuning.fingerprint import digest
from bort.finetuning.splits import Splits, read_splits
from bort.model.checkpoints import locate
from bort.model.devices import use_bf16
from bort.predict.fingerprint import fingerprints_of_models
from bort.progress import console
from bort.runs import Run
from bort.tasks.task import Says, Task
from bort.training.randomness import own_randomness
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


@own_randomness()
def finetune(
    arguments: FinetuneArguments,
    *,
    teacher: Function | None = None,
    embedding: Embedding | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Fine-tune with the chosen method, write the model to `arguments.out`, and return the metrics.

    With `resume`, an interrupted run with the same settings continues: finished trials and labelled texts are read from
    the journal, and an unfinished trial starts at its last checkpoint.

    Args:
        arguments: Settings.
        teacher: A function that labels texts, instead of the teacher that the settings name.
        embedding: Measures how near texts are, instead of the teacher's or the student's encoder; it is also used for
            a teacher with the same model.
        workers: Where trials run; by default according to the settings.

    Raises:
        BortError: Invalid settings, data, model or teacher.
    """
    validate(arguments)
    if arguments.as_published:
        arguments = replace(arguments, **AS_PUBLISHED)
    check_one_task(arguments)
    agora = arguments.method == "agora"
    check_choices(arguments)
    if agora:
        check_agora(arguments, teacher)
    needs = Needs.of(arguments)
    check_workers(arguments.workers, needs)
    data = read_splits(arguments, hold_out=agora)
    pool = read_pool(arguments.unlabelled, arguments, data) if agora and arguments.unlabelled else []
    general = check_general_pool(arguments, data.train) if agora else {}
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=_MAY_CHANGE)
    if (metrics := run.finished()) is not None:
        remove_leftovers(run)
        return metrics
    read = {"training": data.train, "development": data.dev, "test": data.test or [], "unlabelled": pool}
    run.same_data({part: digest(examples) for part, examples in read.items()} | general | _digests_of_files(arguments))
    with open_workers(arguments.workers, needs) if workers is None else contextlib.nullcontext(workers) as opened:
        session = Session(arguments, run, data, opened, RunClock(run, arguments.budget_minutes))
        if agora:
            return fit_growing(session, pool, teacher, embedding)
        return fit_head(session) if arguments.method == "head" else fit_plainly(session)


def _digests_of_files(arguments: FinetuneArguments) -> dict[str, str]:
    """Digests of the models and the instructions that a run depends on, by flag; of a model of the hub, its name."""
    if arguments.method != "agora":
        return fingerprints_of_models(model=arguments.model)
    indexed = arguments.pool is not None and not (Path(arguments.pool) / NAME).is_file()
    found = fingerprints_of_models(
        model=arguments.model,
        teacher=arguments.teacher,
        transform_model=arguments.transform_model if arguments.made_per_mistake else None,
        pool_model=arguments.pool_model if indexed else None,
    )
    if arguments.instructions is not None:
        found[flag("instructions")] = hashlib.sha256(Path(arguments.instructions).read_bytes()).hexdigest()
    return found


def fit_growing(
    session: Session, pool: Sequence[Example], function: Function | None, embedding: Embedding | None
) -> dict[str, Any]:
    """Run Agora: train in rounds on growing data, write the resulting model, and return the metrics.

    Args:
        session: A new or resumed run.
        pool: Unlabelled texts.
        function: Labels texts, instead of the teacher that the settings name.
        embedding: Measures how near texts are, instead of the teacher's or the student's encoder.
    """
    arguments, data, task = session.arguments, session.data, session.task

    @cache  # load an encoder once if it both teaches and measures nearness
    def opened(model: str) -> Embedding:
        if embedding is not None and embedding.model == model:
            return embedding
        return Embedding(model, bf16=use_bf16(arguments.precision))

    teachers = choose_teacher(arguments, data, function, opened, lambda model: _fine_tuned_teacher(session, model))
    session.run.log("teacher", name=teachers.final.name, elapsed=session.clock.elapsed)
    generator = chosen_generator(arguments, data, teachers.rounds)
    teacher = _remembered(session, teachers.rounds, "teacher.jsonl")
    final = teacher
    if teachers.final is not teachers.rounds:
        final = _remembered(session, teachers.final, "final-teacher.jsonl")
    labelling = Labelling(arguments, task, teacher, data.train, data.dev, session.learner.says, teachers.out_of_fold)
    labelling.announce()
    leaked = leaks(arguments, data)
    findings = [f"the teacher was fitted to {count} of the {part} texts, at least" for part, count in leaked.items()]
    for finding in findings:
        console().print(finding, soft_wrap=True)
    made = arguments.made_per_mistake
    train = data.train
    near = Near(
        transforms(arguments.transforms, lambda: Language(arguments.transform_model)) if made else {},
        made=made,
        embedding=embedding or opened(nearness_model(arguments, function)),
        bounds=(arguments.min_cosine, arguments.max_cosine),
        pool=pool,
        found=arguments.unlabelled_per_mistake,
        whole=arguments.whole_pool,
        made_from=None if arguments.as_published else {*map(identity, train)},
        written=None if generator is None else partial(_written, session, generator),
        disputed=None if session.head is None or arguments.as_published else partial(_disputed, session),
    )
    source_of_points: Found = near
    if arguments.pool is not None:
        opened_pool = open_general_pool(arguments, train, session.run.path / "pool", classes=bool(task.names))
        source_of_points = beside(near, opened_pool)
    test, forbidden = data.test or [], {*map(identity, data.test or [])}
    if pool:
        session.learner.vectors = _vectors(session, teachers, [*train, *data.dev, *pool], "vectors.npy")
    missed = () if arguments.as_published else _missed(session)
    source = Source(source_of_points, labelling, identity, forbidden, labelling.worth_learning, missed)
    result = ranked = session.fit(source)
    lasting = arguments.refit and not result.stopped
    head = session.head if arguments.keep_better and session.head and session.head.held else None
    if lasting:
        result = preferring_grown(ranked, task, session.points(data.dev))
        if head is not None and head.beats(np.array(result.best.answers, np.float32)):
            result = ranked  # which may beat the head
    answers = np.array(result.best.answers, np.float32)
    beaten, compared = (False, {}) if head is None else compare(session, head, result, answers)
    taught: Taught | None = None
    if head is not None and beaten:
        fine_tuned = session.scores(session.open(result.best)) | compared
        chosen = head.whole if arguments.refit else head.alone
        model, metrics = head_result(session, head, chosen, head.says)
        metrics |= session.told(result) | {"fine_tuned": fine_tuned}
        labels = len(chosen.folds)
    else:
        weights, fitted = result.best.model, train
        if lasting:
            try:
                last, learned = _last_training(session, result, teachers, final, pool, forbidden)
            except (DivergedError, NoModelError) as error:
                result = without_last_training(ranked, error)  # another was preferred for what it would have begun
                weights = result.best.model
            else:
                weights, taught, fitted = last, learned, [*train, *data.dev]
        model = session.fitter.open(weights.read())
        metrics = session.metrics(result, model, fitted) | compared
        labels = len(fitted)
    metrics["findings"] = [*findings, *metrics["findings"]]
    metrics["plain"] = session.scores(session.open(result.rounds[0].winner))
    metrics["teacher"] = {
        "name": teacher.name,
        "weak": labelling.weak,
        "taught": result.taught,
        "fitted_to": leaked,
        **scored("dev", labelling.dev_scores),
        # Last, because a teacher's answers may cost money, and nothing above may depend on the test data.
        **scored("test", teacher_scores(labelling.fitted_task, final(test), task.targets(test))),
    }
    metrics["teacher"] |= usage(teachers.final)
    if generator is not None:
        metrics["generator"] = {"name": arguments.generator, **usage(generator)}
    metrics["findings"] += unasked(teachers.final)
    counted = NOBODY
    if taught and result.best_round > 1:
        counted = taught.weights
    elif result.taught:  # the result has learned no new texts, or those of the rounds
        counted = labelling.weights(result.rounds[0])
    metrics["label_weights"] = counted._asdict()
    given, everyone = len(train), len(train) + len(data.dev)
    metrics["labels_used"] = {
        "result": labels,
        "selection": given,
        "plain": given,
        "teacher": teachers.final.labels_used if isinstance(teachers.final, HeadTeacher) else None,
        **({"out_of_fold": everyone} if compared else {}),
    }
    metrics["last_training"] = taught and {"texts": len(taught.points), "epochs": taught.epochs}
    metrics["train_labels"] = _label_counts(session, taught.points if taught else result.train)
    metrics["given_labels"] = task.label_counts(task.targets([*train, *data.dev] if taught else train))
    metrics["rounds"] = [_described(session, done) for done in result.rounds]
    metrics["examples"] = examples_of(result.rounds, data)
    metrics["as_published"] = arguments.as_published
    metrics["seconds"] = session.clock.elapsed
    with write_aside(session.run.path / "README.md") as file:
        file.write(model_card(session.run.path, metrics))
    session.finish(metrics, model, agora_report(session.run.path.name, metrics))
    return metrics


def _remembered(session: Session, teacher: Teacher, name: str) -> RememberedTeacher:
    file = None if keeps_answers(teacher) else session.journal.folder / name
    return RememberedTeacher(teacher, session.task, file)


def _last_training(
    session: Session,
    result: AgoraResult[TrainedWeights],
    teachers: TeacherPair,
    final: RememberedTeacher,
    pool: Sequence[Example],
    forbidden: AbstractSet[Hashable],
) -> tuple[TrainedWeights, Taught]:
    """Train on all labels and all texts, or on all labels alone if plain fine-tuning was best.

    Raises:
        DivergedError: The model, or those that label texts for it, have not learned.
        NoModelError: There is no such model, because trainings failed or time was up.
    """
    arguments, data, task = session.arguments, session.data, session.task
    labelled = session.points([*data.train, *data.dev])
    first = result.rounds[0].winner
    plain = cache(partial(plain_models, session, first))
    if result.best_round == 1:
        weights = averaged(session.learner, plain(), labelled)
        return weights, Taught(labelled, passes(session, first), NOBODY)
    if not has_time(session, arguments.averaged):  # do not ask the teacher about all texts in vain
        raise OutOfTimeError
    heard = teachers.final.out_of_fold(data.dev) if isinstance(teachers.final, HeadTeacher) else final(data.dev)
    powers = weights_of_labels(session, heard, first)

    def students(texts: Sequence[Example]) -> Says:
        return mean_prediction(session, plain(), texts)

    taught = last_training_data(arguments, labelled, result, session.learner, final, students, powers, pool, forbidden)
    if arguments.pool is not None:
        known = session.learner.vectors
        more = [point.x for point in taught.points if (point.x.text, None) not in known]
        session.learner.vectors = {**known, **_vectors(session, teachers, more, "found-vectors.npy")}
    whole = LastTraining(session.learner, result.best.theta, taught.points, taught.epochs, with_vectors=True)
    weights = grown_model(session, whole, result.best)
    # Plain models exist if they help to label. They spoil the average if bare labels have made them overconfident, or
    # if new texts clearly improve on them.
    if powers.student and opinions_help(session, first) and not clearly_improves(task, first, result.best, data.dev):
        weights = beside_plain(session.learner, weights, plain(), labelled)
    return weights, taught


def _vectors(
    session: Session, teachers: TeacherPair, examples: Sequence[Example], name: str
) -> dict[tuple[str, str | None], NDArray[np.float32]]:
    """Return the vectors of single texts by the teacher's encoder, which the student learns in addition to the labels.

    They are stored in the run's folder, because their last digits depend on the other texts of a batch.

    Args:
        session: The run.
        teachers: The teachers; the final one has the encoder.
        examples: The texts.
        name: Name of the file.
    """
    arguments, teacher = session.arguments, teachers.final
    if not (arguments.teacher_vectors and examples and isinstance(teacher, HeadTeacher)):
        return {}
    if arguments.teacher is None or examples[0].text_b is not None:
        return {}
    texts = list(dict.fromkeys(example.text for example in examples))
    file = session.journal.folder / name
    if not file.is_file():
        vectors = teacher.embedding.texts(texts)
        with write_aside(file, "wb") as out:
            np.save(out, vectors)
    return {(text, None): row for text, row in zip(texts, np.load(file, allow_pickle=False), strict=True)}


def _missed(session: Session) -> list[int]:
    """Return places of the training data that a linear head on the frozen student gets wrong out of fold."""
    train, found = session.data.train, session.out_of_fold
    if found is None:
        return []
    said, truth = found[: len(train)].tolist(), session.task.targets(train).tolist()
    return [place for place, fine in enumerate(session.learner.right(said, truth)) if not fine]


def _disputed(session: Session, texts: Sequence[Example]) -> NDArray[Any]:
    """Return how much the best model of the last finished round and a linear head disagree. *Shape:* (texts,).

    This is the L1 distance of their probabilities, or the difference of their values.
    """
    trial, head, task = session.journal.latest(), session.head, session.task
    assert trial is not None, "no round has ended"
    assert head is not None, "nobody disagrees"
    one, other = session.learner.says(trial.model, texts), head.whole.says(head.features_of(texts))
    apart: NDArray[Any] = np.abs(task.activate(one) - task.activate(other)).sum(-1)
    return apart


def _written(
    session: Session, generator: Generator, mistakes: Sequence[Example], rng: random.Random
) -> list[list[Example]]:
    """Let a generator write texts near mistakes, given the model's wrong predictions."""
    return generator(mistakes, _taken_for(session, mistakes), rng)


def _taken_for(session: Session, mistakes: Sequence[Example]) -> list[str | None]:
    """Return a wrong prediction for each mistake by a model that has not learned it; None if there is none.

    For development texts, the model is the best of the last finished round; for training texts, the linear head.
    """
    data, task, trial = session.data, session.task, session.journal.latest()
    said: dict[Any, Any] = {}
    if (found := session.out_of_fold) is not None:
        said |= dict(zip(map(identity, data.train), found, strict=False))
    if trial is not None:
        said |= dict(zip(map(identity, data.dev), trial.answers, strict=True))
    rows = [said.get(identity(mistake)) for mistake in mistakes]
    if said:
        places = {identity(example): place for place, example in enumerate([*data.train, *data.dev])}
        known = [name for name in said if name in places]
        truth = task.targets([*data.train, *data.dev])[[places[name] for name in known]]
        task = task.fitted(np.array([said[name] for name in known]), truth)
    named = [None if row is None else shown_answer(task, np.array(row)) for row in rows]
    told = [None if mistake.label is None else shown_label(mistake.label) for mistake in mistakes]
    return [None if name == label else name for name, label in zip(named, told, strict=True)]


def shown_answer(task: Task, said: NDArray[Any]) -> str:
    """Format an answer for display. *Shape:* (outputs,)."""
    [label] = task.labels(said[None])
    return f"{label:g}" if isinstance(label, float) else shown_label(label)


def _fine_tuned_teacher(session: Session, model: str) -> str:
    """Fine-tune an encoder over the teacher's learning rates, in a run of its own, and return its folder.

    Only the first seed, weight decay, warm-up and batch size are used, because training a large teacher takes minutes.
    """
    arguments, data = session.arguments, session.data
    folder = session.run.path / "teacher"
    console().print(f"fine-tuning the teacher {model} first")
    settings = replace(
        arguments,
        method="plain",
        teacher=None,
        teacher_command=None,
        unlabelled=None,
        pool=None,
        generator=None,
        refit=False,  # it must not learn the development data, which decide its weight
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
    remove_leftovers(run)
    return str(folder)


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
    """Count the points of each label; probabilities count as the most likely label."""
    task = session.task
    return task.label_counts(task.collected([point.y for point in points])) if points else dict.fromkeys(task.names, 0)
