"""Who labels new points: a classifier, an encoder with a head, a function of the user's, and any of them kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bort.agora.answers import Answer, WrongAnswerError, answer_row
from bort.agora.label_map import LabelMap
from bort.agora.nearby import Embedding
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.files import write_aside
from bort.finetuning.linear_head import Features, fit_linear_head
from bort.predict.predictor import Predictor
from bort.progress import bar, in_parts
from bort.tasks.metrics import Score
from bort.tasks.task import Says, Targets, Task

Function = Callable[[Sequence[str | tuple[str, str]]], Sequence[Answer]]
"""Labels texts, or pairs of texts: each with a label, a list of labels, a value, probabilities of labels, or None if it
does not know."""


class Teacher(Protocol):
    """Labels examples."""

    @property
    def name(self) -> str:
        """For people."""

    def __call__(self, examples: Sequence[Example]) -> Says:
        """Log-probabilities of classes, log-odds of labels, or values, as of `Task.says`. *Shape:* (examples, outputs).

        A row of NaN: the teacher does not know.
        """


class ClassifierTeacher:
    """A fine-tuned classifier or regressor, in any engine: a model's folder, a hub name, or a folder of `bort export`.

    Args:
        model: Its name.
        task: What is asked.
        labels: Which of the task's classes each of its own stands for; by default the one of the same name.

    Raises:
        BortError: It cannot be loaded, or it answers another question.
    """

    def __init__(self, model: str, task: Task, labels: LabelMap | None = None) -> None:
        self.name, self._task, self._predictor = model, task, Predictor(model)
        theirs = self._predictor.task
        if theirs.kind != task.kind:
            raise BortError(f"the teacher must be made for {task.kind}", file=model, value=theirs.kind)
        labels = labels or LabelMap({name: name for name in task.names if name in theirs.names})
        self._columns = labels.columns(theirs.names, task.names, model)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`."""
        parts = [self._predictor.logits(part) for part in in_parts(f"{self.name} answers", examples)]
        if not parts:
            return np.zeros((0, self._task.outputs))
        logits = np.vstack(parts).astype(np.float64)
        return self._task.combined(logits, self._columns)


class HeadTeacher:
    """A frozen encoder with logistic regression, or ridge regression, on its embeddings.

    Its regularisation is chosen by cross-validation.

    Args:
        embedding: The encoder.
        task: What is asked.
        examples: What the head is fitted to.
    """

    def __init__(self, embedding: Embedding, task: Task, examples: Sequence[Example]) -> None:
        self.name = f"{embedding.model} with a linear head"
        self.embedding, self._task = embedding, task
        names = [(e.text, e.text_b) for e in examples]
        self._head = fit_linear_head(self._features(examples), task.targets(examples), task, groups=names)
        self._own = dict(zip(names, self._head.out_of_fold, strict=True))

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`."""
        return self._head.says(self._features(examples))

    def _features(self, examples: Sequence[Example]) -> Features:
        return {"mean": self.embedding.features(examples)}

    def out_of_fold(self, examples: Sequence[Example]) -> Says:
        """As `__call__`, but of an example that the head was fitted to what a head says that was fitted without it."""
        says = self(examples)
        for row, example in zip(says, examples, strict=True):
            row[:] = self._own.get((example.text, example.text_b), row)
        return says


class FunctionTeacher:
    """A function of the user's.

    Args:
        function: Is given texts, or pairs; says a label, a value, probabilities by label, or None, of each.
        task: What is asked.
        name: For people and messages.
    """

    def __init__(self, function: Function, task: Task, name: str) -> None:
        self.name, self._function, self._task = name, function, task

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`.

        Raises:
            BortError: Too few or too many answers, or one that is no label.
        """
        if not examples:
            return np.zeros((0, self._task.outputs))
        asked = [e.text if e.text_b is None else (e.text, e.text_b) for e in examples]
        with bar(f"{self.name} answers"):
            answers = list(self._function(asked))
        if len(answers) != len(examples):
            raise BortError(f"the teacher {self.name} must answer each of {len(examples)} texts", value=len(answers))
        try:
            return np.array([answer_row(answer := given, self._task) for given in answers])
        except WrongAnswerError as error:
            raise BortError(f"the teacher {self.name} {error}", value=answer) from None


class RememberedTeacher:
    """A teacher that is asked of each text once, also over several processes: its answers are kept in a file.

    A command or a function may cost money, and may answer otherwise when it is asked again.

    Args:
        teacher: Who is asked.
        task: What is asked.
        file: A line of JSON for each text, appended and synced.
    """

    def __init__(self, teacher: Teacher, task: Task, file: Path) -> None:
        self.name, self._teacher, self._task, self._file = teacher.name, teacher, task, file
        self._known: dict[tuple[str, str | None], list[float]] = {}
        if file.is_file():
            content = file.read_text("utf-8")
            whole = content[: content.rfind("\n") + 1]  # a killed process may have written a line in part
            for line in whole.splitlines():
                row = json.loads(line)
                self._known[row["text"], row["text_b"]] = row["says"]
            if whole != content:
                with write_aside(file) as out:
                    out.write(whole)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`."""
        new = {(e.text, e.text_b): e for e in examples if (e.text, e.text_b) not in self._known}
        if new:
            says = self._teacher(list(new.values())).tolist()
            with self._file.open("a", encoding="utf-8") as out:
                for (text, text_b), row in zip(new, says, strict=True):
                    out.write(json.dumps({"text": text, "text_b": text_b, "says": row}) + "\n")
                    self._known[text, text_b] = row
                out.flush()
                os.fsync(out.fileno())
        return np.array([self._known[e.text, e.text_b] for e in examples]).reshape(len(examples), self._task.outputs)


def heard(task: Task, says: Says, targets: Targets) -> Says:
    """What a teacher says, with something wrong, or the mean value, where it does not know.

    Args:
        task: What is asked.
        says: As of `Teacher`.
        targets: As of `Task.targets`.
    """
    unknown = np.isnan(says).any(-1, keepdims=True)
    return np.where(unknown, task.mistaken(targets), says) if len(says) else says


def teacher_scores(task: Task, says: Says, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
    """All scores of what a teacher says; what it does not know counts as wrong (see `heard`).

    Args:
        task: What is asked.
        says: As of `Teacher`.
        targets: As of `Task.targets`.
        resamples: Of the confidence intervals.
    """
    return task.score(heard(task, says, targets), targets, resamples=resamples)


def judged(task: Task, says: Says, targets: Targets) -> float:
    """The task's own score of what a teacher says; see `teacher_scores`."""
    return teacher_scores(task, says, targets, resamples=0)[task.metric].value
