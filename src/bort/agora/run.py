"""`bort finetune` by Agora: the loop with texts, encoders and a teacher, in a run's folder."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bort.agora.journal import RunJournal
from bort.agora.labellers import (
    ClassifierTeacher,
    Function,
    FunctionTeacher,
    HeadTeacher,
    Teacher,
    command_teacher,
    decided,
    judged,
)
from bort.agora.loop import AgoraResult, Made, Point, Round, Trial, fit
from bort.agora.nearby import Embedding, Near, identity
from bort.agora.pooled_labels import NOBODY, TEACHER_ALONE, Says, Weights, clearly_better, normalised, pooled, weigh
from bort.agora.trial import Fitting
from bort.agora.word_model import Language, transforms
from bort.bounds import validate
from bort.data.tables.examples import Columns, Example, read_examples
from bort.errors import BortError
from bort.files import write_aside
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.plain import check_one_task, describe_run, fit_grid, grid, scored
from bort.finetuning.splits import Splits, read_splits, say_what_is_cut
from bort.finetuning.train_once import HyperParameters
from bort.model.checkpoints import load_config, locate
from bort.predict.encoding import encode
from bort.progress import Bar, bar, console
from bort.runs import Run
from bort.tasks.suites.table import find
from bort.workers import WHERE_TRIALS_RUN, Needs, Received, Workers, check_workers, open_workers


def check_choices(arguments: FinetuneArguments) -> None:
    """Refuse a task whose examples are no texts or pairs.

    Raises:
        BortError: It has choices, and Agora was asked for.
    """
    if arguments.method != "agora":
        return
    for task in find(arguments.task):
        if task.chooses(arguments.cast):
            rule = f"Agora makes new texts and pairs; {task.title} has choices: give --method plain or --cast released"
            raise BortError(rule, setting="task", value=task.name)


def check_agora(arguments: FinetuneArguments, function: Function | None = None) -> None:
    """Refuse transforms that there are not, and two teachers.

    Raises:
        BortError: The first of them.
    """
    transforms([name for name in arguments.transforms if "infill" not in name and "synonym" not in name], Language)
    if function is not None and (arguments.teacher is not None or arguments.teacher_command is not None):
        raise BortError("give one teacher: a function, --teacher or --teacher-command", setting="teacher")


def read_pool(arguments: FinetuneArguments, data: Splits) -> list[Example]:
    """The unlabelled texts, or pairs where the training data are pairs; blank ones left out.

    Raises:
        BortError: The file breaks a rule, or holds pairs for texts, or the other way round.
    """
    assert arguments.unlabelled is not None
    columns = Columns(arguments.text, arguments.text_b, arguments.label)
    pool = [e for e in read_examples(arguments.unlabelled, columns, labelled=False) if e.text.strip()]
    pairs = data.train[0].text_b is not None
    for example in pool:
        if (example.text_b is not None) != pairs:
            rule = "must hold pairs where the training data do, and single texts where they do"
            raise BortError(rule, file=example.source, line=example.line, column="text_b", value=example.text_b)
    return [replace(example, label=None) for example in pool]


OK_ISH = 2 / 3
"""A teacher below this accuracy is warned of, and may teach nothing (arXiv 2010.07990 asks for an ok-ish one)."""


_MAY_CHANGE = ("checkpoint_minutes", *WHERE_TRIALS_RUN)


def finetune(
    arguments: FinetuneArguments,
    *,
    teacher: Function | None = None,
    embedding: Embedding | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Fine-tune by Agora, write the model to `arguments.out`, and return the figures.

    Killed at any time, a run of the same settings with `resume` goes on: finished trials and labelled texts are read
    from the journal, an unfinished trial from its last checkpoint.

    Args:
        arguments: Settings.
        teacher: A function that labels, instead of the teacher that the settings name.
        embedding: Says how near texts are, instead of the teacher's encoder or the student's own.
        workers: Where combinations are fitted; by default where the settings say.

    Raises:
        BortError: Bad settings, data, model or teacher.
    """
    validate(arguments)
    check_one_task(arguments)
    check_agora(arguments, teacher)
    check_choices(arguments)
    needs = Needs.of(arguments)
    check_workers(arguments.workers, needs)
    data = read_splits(arguments, hold_out=True)
    pool = [] if arguments.unlabelled is None else read_pool(arguments, data)
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=_MAY_CHANGE)
    if (metrics := run.finished()) is not None:
        return metrics
    with open_workers(arguments.workers, needs) if workers is None else contextlib.nullcontext(workers) as opened:
        return _Agora(arguments, run, data, pool, teacher, embedding, opened).run_rounds()


class _Agora:
    """One run. The loop's examples are `Example`, its labels classes, distributions or values, its models files."""

    def __init__(
        self,
        arguments: FinetuneArguments,
        run: Run,
        data: Splits,
        pool: list[Example],
        function: Function | None,
        embedding: Embedding | None,
        workers: Workers,
    ) -> None:
        self.arguments, self.run, self.data, self.task, self.pool = arguments, run, data, data.task, pool
        self.fitter = data.fitter(arguments)
        self.folder = run.path / "rounds"
        self.folder.mkdir(exist_ok=True)
        self.journal = RunJournal(run, self.folder)
        self.dev = self.fitter.labelled(data.dev)
        assert data.test is not None
        self.test = self.fitter.labelled(data.test)
        self.fitting = Fitting(
            arguments,
            self.fitter,
            self.task,
            self.dev,
            self.task.targets(data.train),
            self.folder,
            workers.sees_files,
            on_progress=self._on_progress,
        )
        self.workers = Received(workers, self._received)
        self.teacher, nearness = self._teacher(function)
        self.embedding = embedding or nearness or Embedding(arguments.model)
        self.near = Near(
            transforms(arguments.transforms, self._language) if arguments.points_per_mistake else {},
            made=arguments.points_per_mistake,
            embedding=self.embedding,
            bounds=(arguments.min_cosine, arguments.max_cosine),
            pool=pool,
            found=arguments.unlabelled_per_mistake,
        )
        self.spent, self.started = self.journal.seconds, time.monotonic()
        self.place = 0
        self.plain: Path | None = None
        self.shown: Bar | None = None

    def _language(self) -> Language:
        return Language(self.arguments.transform_model)

    def _teacher(self, function: Function | None) -> tuple[Teacher, Embedding | None]:
        """The teacher, and its embedding if it has one."""
        arguments, task = self.arguments, self.task
        if function is not None:
            return FunctionTeacher(function, task, getattr(function, "__name__", "given")), None
        if arguments.teacher_command is not None:
            return command_teacher(arguments.teacher_command, task), None
        if arguments.teacher is None:
            own = Embedding(arguments.model)
            return HeadTeacher(own, self.data), own
        model = arguments.teacher
        architectures = load_config(model).architectures or []
        if any("SequenceClassification" in name for name in architectures):
            return ClassifierTeacher(model, task), None
        sentences = (Path(locate(model)) / "modules.json").is_file()
        how = arguments.teacher_fit if arguments.teacher_fit != "auto" else "head" if sentences else "full"
        theirs = None if how == "full" else Embedding(model)
        head = None if theirs is None else HeadTeacher(theirs, self.data)
        if head is not None and how == "head":
            return head, theirs
        full = self._finetuned_teacher(model)
        if head is None:
            return full, None
        targets = task.targets(self.data.dev)
        by_head, by_full = (judged(task, teacher(self.data.dev), targets) for teacher in (head, full))
        console().print(f"development {task.metric}: a linear head {by_head:.3f}, fine-tuned {by_full:.3f}")
        return (head if by_head >= by_full else full), theirs

    def _finetuned_teacher(self, model: str) -> Teacher:
        """An encoder fine-tuned over the teacher's learning rates, in a run of its own.

        One batch size is enough: a teacher is large, and a fit of it takes minutes.
        """
        folder = self.run.path / "teacher"
        console().print(f"fine-tuning the teacher {model} first")
        settings = replace(
            self.arguments,
            model=model,
            out=str(folder),
            learning_rates=self.arguments.teacher_learning_rates,
            batch_sizes=self.arguments.batch_sizes[:1],
            resume=True,
        )
        splits = Splits(self.data.train, self.data.dev, None, self.task)
        fit_grid(settings, Run(folder, "finetune", settings, resume=True, may_change=_MAY_CHANGE), splits)
        return ClassifierTeacher(str(folder), self.task)

    def run_rounds(self) -> dict[str, Any]:
        """Run the loop, judge what it gave, describe it."""
        thetas = grid(self.arguments)
        values = {name: {asdict(theta)[name] for theta in thetas} for name in asdict(thetas[0])}
        self.varied = [name for name, found in values.items() if len(found) > 1] or ["learning_rate"]
        teacher_scores = self._judge_teacher()
        self.data.announce(f"{len(thetas)} combination{'s' if len(thetas) > 1 else ''}, as many rounds at most")
        say_what_is_cut(self.fitter.labelled(self.data.train), self.fitter.max_length)
        self._warn_of_teacher(teacher_scores)
        targets = self.task.targets
        with bar("fine-tuning", len(thetas)) as self.shown:
            outcome = fit(
                [asdict(theta) for theta in thetas],
                [Point(x, y) for x, y in zip(self.data.train, targets(self.data.train).tolist(), strict=True)],
                [Point(x, y) for x, y in zip(self.data.dev, targets(self.data.dev).tolist(), strict=True)],
                fit=self.fitting.fit,
                predict=self.fitting.predict,
                transform=self._made,
                label=self._label,
                right=self.fitting.right,
                score=self.fitting.score,
                identity=identity,
                forbidden=map(identity, self.data.test or []),
                prune=self.arguments.prune,
                replay=self.arguments.replay,
                worth_learning=lambda plain: self._worth_learning(teacher_scores, plain),
                seed=self.arguments.seed,
                workers=self.workers,
                journal=self.journal,
                on_round=self._round_is_over,
                out_of_time=self._out_of_time,
            )
        return self._finish(outcome, teacher_scores)

    def _received(self, trial: Trial[Any]) -> Trial[Path]:
        """A trial has ended, here or elsewhere."""
        self.place += 1
        if self.shown is not None:
            self.shown.update(self.place, f"round {self.fitting.round}, {self._short(trial.theta)}: {trial.score:.3f}")
        return self.fitting.receive(trial)

    def _on_progress(self, theta: Mapping[str, Any], share: float, note: str) -> None:
        if self.shown is not None:
            self.shown.update(self.place + share, f"round {self.fitting.round}, {self._short(theta)}: {note}")

    def _short(self, theta: Mapping[str, Any]) -> str:
        """A combination by what tells it from the others."""
        return " ".join(f"{name}={theta[name]:g}" for name in self.varied)

    def _made(self, mistakes: Sequence[Example], rng: Any) -> Made[Example]:
        return self.near(mistakes, rng)

    def _label(self, examples: Sequence[Example]) -> list[Any]:
        says = self.teacher(examples)
        if self.weights.student:
            says = pooled(self.weights, says, self._student_says(self.journal.best(self.fitting.round), examples))
        known = [not np.isnan(row).any() for row in says]
        if self.task.kind == "regression":
            return [float(row[0]) if fine else None for row, fine in zip(says, known, strict=True)]
        if self.arguments.labels == "hard":
            return [int(row.argmax()) if fine else None for row, fine in zip(says, known, strict=True)]
        tempered = says / self.arguments.temperature
        p = np.exp(tempered - tempered.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return [tuple(row.round(6).tolist()) if fine else None for row, fine in zip(p, known, strict=True)]

    @cached_property
    def weights(self) -> Weights:
        """What the teacher and the student count for: by the first round's best model, whose training data owe nothing
        to the development data."""
        if self.arguments.labelled_by == "teacher":
            return TEACHER_ALONE
        student = self._student_says(self.journal.best(1), self.data.dev)
        return weigh(self.said_of_dev, student, self.task.targets(self.data.dev))

    @cached_property
    def said_of_dev(self) -> Says:
        """What the teacher says of the development data."""
        return self.teacher(self.data.dev)

    def _student_says(self, file: Path, examples: Sequence[Example]) -> Says:
        """As a teacher would."""
        encoded = encode(examples, self.fitter.tokenizer, self.fitter.max_length)
        outputs = self.fitter.encoded_logits(self.fitter.open(file), encoded).astype(np.float64)
        return outputs if self.task.kind == "regression" else normalised(outputs)

    def _out_of_time(self) -> bool:
        minutes = self.arguments.budget_minutes
        return minutes is not None and self.spent + time.monotonic() - self.started > 60 * minutes

    def _judge_teacher(self) -> dict[str, Any]:
        """What the teacher scores on the development and test data; asked before it is relied on."""
        task, found = self.task, {}
        test = self.data.test or []
        for part, examples, says in (("dev", self.data.dev, self.said_of_dev), ("test", test, self.teacher(test))):
            found[part] = task.judge(decided(task, says), task.targets(examples))
        return found

    def _teacher_is_weak(self, scores: dict[str, Any]) -> bool:
        return bool(self.task.names) and scores["dev"]["accuracy"].value < OK_ISH

    def _warn_of_teacher(self, scores: dict[str, Any]) -> None:
        metric = self.task.metric
        console().print(f"teacher: {self.teacher.name}, development {metric} {scores['dev'][metric].value:.3f}")
        if self._teacher_is_weak(scores):
            console().print(
                "the teacher is right in less than two thirds of the development data: what it teaches may do harm;"
                " name a better one with --teacher",
                soft_wrap=True,
            )

    def _worth_learning(self, scores: dict[str, Any], plain: Trial[Path]) -> bool:
        """Whether the teacher is good enough, or at least clearly better than what plain fine-tuning gave."""
        if self.arguments.weak_teacher == "use" or not self._teacher_is_weak(scores):
            return True
        truth = self.task.targets(self.data.dev)
        worth = clearly_better(decided(self.task, self.said_of_dev) == truth, np.array(plain.answers) == truth)
        if not worth:
            console().print(
                "nor is the teacher clearly better there than plain fine-tuning: nothing is learned from it, and the"
                " first round was the last; --weak-teacher use learns from it all the same",
                soft_wrap=True,
            )
        return worth

    def _round_is_over(self, done: Round[Path], best: Trial[Path]) -> None:
        """Say what happened, and keep the weights that are still needed."""
        winner = done.trials[done.best]
        if done.number == 1:
            self.plain = winner.model
        for file in self.folder.glob("*.safetensors"):
            # A resumed run has files of later rounds as well.
            if int(file.name.partition("-")[0]) <= done.number and file not in (best.model, self.plain):
                file.unlink()
        for theta, told in done.failed.items():
            console().print(f"{theta} failed: {told}", soft_wrap=True)
        self.near.forget([point.x for point in done.growth.points])
        growth, metric = done.growth, self.task.metric
        grown = ""
        if growth.made:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(growth.dropped.items()))
            grown = f"; {len(growth.points)} of {growth.made} new texts kept" + (f" ({reasons})" if reasons else "")
        console().print(
            f"round {done.number}{' (replayed)' if done.replayed else ''}: {len(done.trials)} fitted to "
            f"{done.train_size} texts, best development {metric} {winner.score:.3f} ({self._short(winner.theta)}), "
            f"{len(done.mistakes)} mistakes{grown}; {len(done.pruned)} of the combinations go",
            soft_wrap=True,
        )
        self.fitting.round, self.place = done.number + 1, 0

    def _finish(self, outcome: AgoraResult[Path], teacher_scores: dict[str, Any]) -> dict[str, Any]:
        from bort.agora.report import agora_report, model_card

        assert self.plain is not None
        plain = self.fitter.open(self.plain)
        plain_scores = {"dev": self.fitter.score(plain, self.dev), "test": self.fitter.score(plain, self.test)}
        model = self.fitter.open(outcome.best.model)
        parts = {"dev": self.dev, "test": self.test}
        outputs = {part: self.fitter.logits(model, data) for part, data in parts.items()}
        scores = {part: self.task.score(outputs[part], data.targets) for part, data in parts.items()}
        matrix = self.fitter.confusion(outputs["test"], self.test)
        self.fitter.save(model, self.run.path)
        metrics = describe_run(self.fitter, self.data)
        weights = self.weights if outcome.taught else NOBODY
        metrics |= {"method": "agora", "held_out": self.data.held_out, "stopped_early": outcome.stopped}
        metrics |= {"best_theta": str(HyperParameters(**outcome.best.theta)), "best_round": self._round_of(outcome)}
        metrics |= {"rounds": [self._described(done) for done in outcome.rounds]}
        metrics |= {"train_labels": self._counts(outcome.train), "label_weights": weights._asdict()}
        metrics |= {"seconds": round(self.spent + time.monotonic() - self.started, 1)}
        for part, values in scores.items():
            metrics |= scored(part, values)
        if self.data.suite:
            metrics |= self.data.suite.judge(self.fitter, model, outputs)
        others = {"plain": plain_scores, "teacher": teacher_scores}
        for name, found in others.items():
            metrics[name] = {
                key: value for part, values in found.items() for key, value in scored(part, values).items()
            }
        metrics["teacher"] |= {
            "name": self.teacher.name,
            "weak": self._teacher_is_weak(teacher_scores),
            "taught": outcome.taught,
        }
        agora_report(self.run, self.arguments, metrics, outcome, self.data, matrix)
        with write_aside(self.run.path / "README.md") as file:
            file.write(model_card(self.arguments, metrics))
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", dev=metrics["dev"], test=metrics["test"])
        shutil.rmtree(self.folder, ignore_errors=True)
        return metrics

    def _round_of(self, outcome: AgoraResult[Path]) -> int:
        return next(done.number for done in outcome.rounds if outcome.best in done.trials)

    def _described(self, done: Round[Path]) -> dict[str, Any]:
        growth = done.growth
        return {
            "round": done.number,
            "replayed": done.replayed,
            "trials": [{"theta": self._short(trial.theta), "score": trial.score} for trial in done.trials],
            "best": done.best,
            "train_size": done.train_size,
            "mistakes": len(done.mistakes),
            "made": growth.made,
            "kept": len(growth.points),
            "dropped": growth.dropped,
            "labels": self._counts(growth.points),
            "pruned": done.pruned,
            "failed": done.failed,
        }

    def _counts(self, points: Sequence[Point]) -> dict[str, int]:
        """How many points have each class as their likeliest."""
        if not self.task.names:
            return {}
        likeliest = [int(np.argmax(p.y)) if isinstance(p.y, tuple) else int(p.y) for p in points]
        counts = np.bincount(np.array(likeliest, dtype=np.int64), minlength=self.task.outputs)
        return dict(zip(self.task.names, counts.tolist(), strict=True))
