"""Agora on texts: train in rounds on growing data, then once more on all labels and texts, in a run's folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from bort.agora.asked_teachers import chosen_generator, keeps_answers, unasked, usage
from bort.agora.averaging import averaged, beside_plain
from bort.agora.checks import MAY_CHANGE
from bort.agora.examples import examples_of
from bort.agora.general_pool import Found, beside, open_general_pool
from bort.agora.journal import remove_leftovers
from bort.agora.labellers import Function, HeadTeacher, RememberedTeacher, Teacher, teacher_scores
from bort.agora.labelling import Labelling, deciding
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
from bort.agora.mistakes import disputed, missed, written
from bort.agora.model_choice import clearly_improves, preferring_grown
from bort.agora.nearby import Embedding, Near
from bort.agora.plain_run import compare, fit_plainly, head_result, learned_by
from bort.agora.pooled_labels import NOBODY, Weights
from bort.agora.report import agora_report, model_card
from bort.agora.rounds import AgoraResult, DivergedError, NoModelError, OutOfTimeError, Point, Round
from bort.agora.session import Session, scored
from bort.agora.softened_labels import opinions_help
from bort.agora.teachers import choose_teacher, leaks, nearness_model
from bort.agora.trial import TrainedWeights
from bort.agora.word_model import Language, transforms
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.finetuning.linear_head import MOST_FITTED
from bort.finetuning.splits import Splits
from bort.model.devices import use_bf16
from bort.progress import say
from bort.runs import Run
from bort.tasks.metrics import Score
from bort.tasks.task import Says


@dataclass(frozen=True)
class _Outcome:
    """What the loop and the last training gave.

    Attributes:
        result: Result of the rounds, with the trial that was chosen among theirs.
        model: The model.
        metrics: Its own metrics.
        given: The labelled examples that it has learned.
        compared: Whether it was compared out of fold with a linear head.
        taught: Data of the last training; None if its model is not the result.
    """

    result: AgoraResult[TrainedWeights]
    model: PreTrainedModel
    metrics: dict[str, Any]
    given: Sequence[Example]
    compared: bool
    taught: Taught | None = None

    @property
    def grown(self) -> bool:
        """Whether it comes from a last training on new texts, which the final teacher has labelled."""
        return self.taught is not None and self.result.best_round > 1


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
    run = _GrowingRun(session, pool, function, embedding)
    outcome = run.outcome(session.fit(run.source()))
    metrics = outcome.metrics | run.metrics(outcome)
    with write_aside(session.run.path / "README.md") as file:
        file.write(model_card(session.run.path, metrics))
    session.finish(metrics, outcome.model, agora_report(session.run.path.name, metrics))
    return metrics


class _GrowingRun:
    """The steps of a run, which share its teachers.

    Args:
        session: See `fit_growing`, also for the others.
        pool: Unlabelled texts.
        function: Labels texts.
        embedding: Measures how near texts are.
    """

    def __init__(
        self, session: Session, pool: Sequence[Example], function: Function | None, embedding: Embedding | None
    ) -> None:
        arguments, data = session.arguments, session.data
        self._session, self._pool, self._function, self._given = session, pool, function, embedding
        self._forbidden = {*map(identity, data.test or [])}

        @cache  # load an encoder once if it both teaches and measures nearness
        def opened(model: str) -> Embedding:
            if embedding is not None and embedding.model == model:
                return embedding
            return Embedding(model, bf16=use_bf16(arguments.precision))

        self._opened = opened
        self._teachers = choose_teacher(arguments, data, function, self._opened, self._fine_tuned)
        session.run.log("teacher", name=self._teachers.final.name, elapsed=session.clock.elapsed)
        self._generator = chosen_generator(arguments, data, self._teachers.rounds)
        self._teacher = self._final = self._remembered(self._teachers.rounds, "teacher.jsonl")
        if self._teachers.final is not self._teachers.rounds:
            self._final = self._remembered(self._teachers.final, "final-teacher.jsonl")
        says, out_of_fold = session.learner.says, self._teachers.out_of_fold
        self._labelling = Labelling(arguments, session.task, self._teacher, data.train, data.dev, says, out_of_fold)
        self._labelling.announce()
        self._leaked = leaks(arguments, data)
        self._missed: list[int] = []
        self._nothing: str | None = None
        self._findings = [
            f"the teacher was fitted to {count} of the {part} texts, at least" for part, count in self._leaked.items()
        ]
        for finding in self._findings:
            say(finding)

    def _remembered(self, teacher: Teacher, name: str) -> RememberedTeacher:
        file = None if keeps_answers(teacher) else self._session.journal.folder / name
        return RememberedTeacher(teacher, self._session.task, file)

    def source(self) -> Source[TrainedWeights]:
        """Return where new points come from: texts near the mistakes, labelled by the teacher."""
        session, arguments, train = self._session, self._session.arguments, self._session.data.train
        made, generator = arguments.made_per_mistake, self._generator
        near = Near(
            transforms(arguments.transforms, lambda: Language(arguments.transform_model)) if made else {},
            made=made,
            embedding=self._given or self._opened(nearness_model(arguments, self._function)),
            bounds=(arguments.min_cosine, arguments.max_cosine),
            pool=self._pool,
            found=arguments.unlabelled_per_mistake,
            whole=arguments.whole_pool,
            made_from=None if arguments.as_published else {*map(identity, train)},
            written=None if generator is None else partial(written, session, generator),
            disputed=None if session.head is None or arguments.as_published else partial(disputed, session),
        )
        points: Found = near
        if arguments.pool is not None:
            classes = bool(session.task.names)
            points = beside(near, open_general_pool(arguments, train, session.run.path / "pool", classes=classes))
        if self._pool:
            self._learn_vectors([*train, *session.data.dev, *self._pool], "vectors.npy")
        self._missed = [] if arguments.as_published else missed(session)
        if (made or generator) and session.out_of_fold is None and not arguments.as_published:
            self._findings.append(
                f"no new texts are made: they are made from training texts that a linear head gets wrong out of fold, "
                f"which are not known of more than {MOST_FITTED:,} texts"
            )
            say(self._findings[-1])
        worth_learning = self._labelling.worth_learning
        return Source(points, self._labelling, identity, self._forbidden, worth_learning, self._missed)

    def outcome(self, ranked: AgoraResult[TrainedWeights]) -> _Outcome:
        """Choose between the trials and the linear head, and train the choice on all labels.

        Args:
            ranked: Result of the rounds.
        """
        session, arguments, train = self._session, self._session.arguments, self._session.data.train
        self._nothing = self._nothing_added(ranked)
        if self._nothing is not None and ranked.taught:
            say(f"no texts were added: {self._nothing}")
        lasting = arguments.refit and not ranked.stopped
        head = session.head if arguments.keep_better and session.head and session.head.held else None
        result = ranked
        if lasting:
            result = preferring_grown(ranked, session.task, session.points(session.data.dev))
            if head is not None and head.beats(np.array(result.best.answers, np.float32)):
                result = ranked  # which may beat the head
        answers = np.array(result.best.answers, np.float32)
        beaten, compared = (False, {}) if head is None else compare(session, head, result, answers)
        if head is not None and beaten:
            fine_tuned = session.scores(session.open(result.best)) | compared
            chosen = head.whole if arguments.refit else head.alone
            model, metrics = head_result(session, head, chosen, head.says)
            metrics |= session.told(result) | {"fine_tuned": fine_tuned}
            return _Outcome(result, model, metrics, learned_by(session, head, chosen), bool(compared))
        weights, fitted, taught = result.best.model, train, None
        if lasting:
            try:
                weights, taught = self._last_training(result)
                fitted = [*train, *session.data.dev]
            except (DivergedError, NoModelError) as error:
                result = without_last_training(ranked, error)  # another was preferred for what it would have begun
                weights = result.best.model
        model = session.fitter.open(weights.read())
        metrics = session.metrics(result, model, fitted) | compared
        return _Outcome(result, model, metrics, fitted, bool(compared), taught)

    def _nothing_added(self, result: AgoraResult[TrainedWeights]) -> str | None:
        """Return why the rounds have added no texts; None if they have."""
        arguments, rounds = self._session.arguments, result.rounds
        if any(done.growth.points for done in rounds):
            return None
        if not result.taught:
            return self._labelling.refused
        if made := sum(done.growth.made for done in rounds):
            return f"all {made:,} new texts were dropped"
        if not arguments.replay and len(rounds[0].pruned) == len(rounds[0].trials):
            return "the first round was the last"
        if not self._missed and not any(done.mistakes for done in rounds):
            return "no text was predicted wrongly"
        return "time was up" if result.stopped else "none were found or made near the mistakes"

    def _last_training(self, result: AgoraResult[TrainedWeights]) -> tuple[TrainedWeights, Taught]:
        """Train on all labels and all texts, or on all labels alone if plain fine-tuning was best.

        Raises:
            DivergedError: The model, or those that label texts for it, have not learned.
            NoModelError: There is no such model, because trainings failed or time was up.
        """
        session, teacher, final = self._session, self._teachers.final, self._final
        arguments, data, learner = session.arguments, session.data, session.learner
        labelled = session.points([*data.train, *data.dev])
        first = result.rounds[0].winner
        plain = cache(partial(plain_models, session, first))
        if result.best_round == 1:
            weights = averaged(learner, plain(), labelled)
            return weights, Taught(labelled, passes(session, first), NOBODY)
        if not has_time(session, arguments.averaged):  # do not ask the teacher about all texts in vain
            raise OutOfTimeError
        heard = teacher.out_of_fold(data.dev) if isinstance(teacher, HeadTeacher) else final(data.dev)
        powers = weights_of_labels(session, heard, first)
        task = deciding(session.task, powers, heard, np.array(first.answers), session.task.targets(data.dev))

        def students(texts: Sequence[Example]) -> Says:
            return mean_prediction(session, plain(), texts)

        taught = last_training_data(
            arguments, task, labelled, result, learner, final, students, powers, self._pool, self._forbidden
        )
        if arguments.pool is not None:
            more = [point.x for point in taught.points if (point.x.text, None) not in learner.vectors]
            self._learn_vectors(more, "found-vectors.npy")
        whole = LastTraining(learner, result.best.theta, taught.points, taught.epochs, with_vectors=True)
        weights = grown_model(session, whole, result.best)
        # Plain models exist if they help to label. They spoil the average if bare labels have made them overconfident,
        # or if new texts clearly improve on them.
        helps = powers.student and opinions_help(session, first)
        if helps and not clearly_improves(session.task, first, result.best, data.dev):
            weights = beside_plain(learner, weights, plain(), labelled)
        return weights, taught

    def _learn_vectors(self, examples: Sequence[Example], name: str) -> None:
        """Let the student learn the vectors of single texts by the teacher's encoder, in addition to the labels.

        They are stored in the run's folder, because their last digits depend on the other texts of a batch.

        Args:
            examples: The texts.
            name: Name of the file.
        """
        session, teacher = self._session, self._teachers.final
        if not (session.arguments.teacher_vectors and examples and isinstance(teacher, HeadTeacher)):
            return
        if session.arguments.teacher is None or examples[0].text_b is not None:
            return
        texts = list(dict.fromkeys(example.text for example in examples))
        file = session.journal.folder / name
        if not file.is_file():
            vectors = teacher.embedding.texts(texts)
            with write_aside(file, "wb") as out:
                np.save(out, vectors)
        rows = zip(texts, np.load(file, allow_pickle=False), strict=True)
        session.learner.vectors = {**session.learner.vectors, **{(text, None): row for text, row in rows}}

    def _fine_tuned(self, model: str) -> str:
        """Fine-tune an encoder over the teacher's learning rates, in a run of its own, and return its folder.

        Only the first seed, weight decay, warm-up and batch size are used, because training a large teacher takes
        minutes.
        """
        session, arguments, data = self._session, self._session.arguments, self._session.data
        folder = session.run.path / "teacher"
        say(f"fine-tuning the teacher {model} first")
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
        run = Run(folder, "finetune", settings, resume=True, may_change=MAY_CHANGE)
        if run.finished() is None:
            fit_plainly(Session(settings, run, splits, session.workers, session.clock))
        remove_leftovers(run)
        return str(folder)

    def metrics(self, outcome: _Outcome) -> dict[str, Any]:
        """Return the metrics of Agora's run, beside those of its model."""
        session, result, taught = self._session, outcome.result, outcome.taught
        data, task = session.data, session.task
        teacher = self._teachers.final if outcome.grown else self._teachers.rounds
        told: dict[str, Any] = {"plain": session.scores(session.open(result.rounds[0].winner))}
        told["teacher"] = {
            "name": self._teacher.name,
            "weak": self._labelling.weak,
            "taught": result.taught,
            "fitted_to": self._leaked,
            **scored("dev", self._labelling.dev_scores),
            # Last, because a teacher's answers may cost money, and nothing above may depend on the test data.
            **scored("test", self._test_scores(self._final if outcome.grown else self._teacher)),
        }
        told["teacher"] |= usage(teacher)
        if self._generator is not None:
            told["generator"] = {"name": session.arguments.generator, **usage(self._generator)}
        told["findings"] = [*self._findings, *outcome.metrics["findings"]]
        told["findings"] += [*unasked(teacher, "teacher"), *unasked(self._generator, "generator")]
        told["label_weights"] = self._label_weights(outcome)._asdict()
        told["labels_used"] = {
            "result": len(outcome.given),
            "selection": len(data.train),
            "plain": len(data.train),
            "teacher": teacher.labels_used if isinstance(teacher, HeadTeacher) else None,
            **({"out_of_fold": len(data.train) + len(data.dev)} if outcome.compared else {}),
        }
        told["last_training"] = taught and {"texts": len(taught.points), "epochs": self._epochs(outcome, taught)}
        told["train_labels"] = _label_counts(session, self._learned(outcome))
        told["given_labels"] = task.label_counts(task.targets(outcome.given))
        told["nothing_added"] = self._nothing
        told["rounds"] = [_described(session, done) for done in result.rounds]
        told["examples"] = examples_of(result.rounds, data)
        told["as_published"] = session.arguments.as_published
        told["seconds"] = session.clock.elapsed
        return told

    def _test_scores(self, teacher: Teacher) -> dict[str, Score]:
        task, test = self._labelling.fitted_task, self._session.data.test or []
        return teacher_scores(task, teacher(test), self._session.task.targets(test))

    def _learned(self, outcome: _Outcome) -> Sequence[Point]:
        """Return all that the result has learned: labelled texts, and those that were added before it was trained."""
        if outcome.taught:
            return outcome.taught.points
        if outcome.metrics["result"] == "head":
            return self._session.points([*outcome.given])
        result = outcome.result
        return result.train[: result.rounds[result.best_round - 1].train_size]

    def _epochs(self, outcome: _Outcome, taught: Taught) -> float:
        """Return the number of epochs of the last training; `max_steps` may leave only a part of one."""
        most = self._session.arguments.max_steps
        steps = math.ceil(len(taught.points) / int(outcome.result.best.theta["batch_size"]))
        if most is None or taught.epochs * steps <= most:
            return taught.epochs
        return float(f"{most / steps:.2g}")

    def _label_weights(self, outcome: _Outcome) -> Weights:
        """Return the weights of teacher and student in the labels of the texts that the result has learned."""
        result, taught = outcome.result, outcome.taught
        if taught and result.best_round > 1:
            return taught.weights
        if result.taught:  # the result has learned no new texts, or those of the rounds
            return self._labelling.weights(result.rounds[0])
        return NOBODY


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
