"""Teachers, which label new points: a classifier, an encoder with a head, a user's function; and their cache."""

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
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.files import write_aside
from bort.finetuning.linear_head import Features, fit_linear_head
from bort.finetuning.student_head import learned_from
from bort.predict.predictor import Predictor
from bort.progress import bar, in_parts
from bort.tasks.metrics import Score
from bort.tasks.task import Says, Targets, Task

Function = Callable[[Sequence[str | tuple[str, str]]], Sequence[Answer]]
"""Labels texts, or pairs of texts: returns for each a label, a list of labels, a value, label probabilities, or None if
it does not know."""


class Teacher(Protocol):
    """Labels examples."""

    @property
    def name(self) -> str:
        """Name to display."""

    def __call__(self, examples: Sequence[Example]) -> Says:
        """Return log-probabilities of classes, log-odds of labels, or values, like `Task.says`.

        A row of NaN means that the teacher does not know. *Shape:* (examples, outputs).
        """


class ClassifierTeacher:
    """A fine-tuned classifier or regressor, in any engine: a model's folder, a hub name, or a folder of `bort export`.

    Args:
        model: Its folder or name.
        task: The task.
        labels: Maps its classes to the task's; by default those of the same name.

    Raises:
        BortError: It cannot be loaded, or does not fit the task.
    """

    def __init__(self, model: str, task: Task, labels: LabelMap | None = None) -> None:
        self.name, self._task, self._predictor = model, task, Predictor(model)
        theirs = self._predictor.task
        if theirs.kind != task.kind:
            raise BortError(f"the teacher must be made for {task.kind}", file=model, value=theirs.kind)
        labels = labels or LabelMap({name: name for name in task.names if name in theirs.names})
        self._columns = labels.columns(theirs.names, task.names, model)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`."""
        parts = [self._predictor.logits(part) for part in in_parts(f"{self.name} answers", examples)]
        if not parts:
            return np.zeros((0, self._task.outputs))
        logits = np.vstack(parts).astype(np.float64)
        return self._task.combined(logits, self._columns)


class HeadTeacher:
    """A frozen encoder with logistic regression, or ridge regression, on its embeddings.

    Its regularisation is chosen by cross-validation, with copies of a text in the same fold.

    Args:
        embedding: The encoder.
        task: The task.
        examples: Labelled examples; if there are very many, the head is fitted to a random sample.
    """

    def __init__(self, embedding: Embedding, task: Task, examples: Sequence[Example]) -> None:
        self.name = f"{embedding.model} with a linear head"
        self.embedding, self._task = embedding, task
        examples = learned_from(examples)
        self._learned = [identity(example) for example in examples]
        self._head = fit_linear_head(self._features(examples), task.targets(examples), task, groups=self._learned)

    @property
    def labels_used(self) -> int:
        """Number of labels that the head was fitted to."""
        return len(self._learned)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`."""
        return self._head.says(self._features(examples))

    def _features(self, examples: Sequence[Example]) -> Features:
        return {"mean": self.embedding.features(examples)}

    def out_of_fold(self, examples: Sequence[Example]) -> Says:
        """Like `__call__`, but with out-of-fold predictions for texts that the head was fitted to."""
        names = [identity(example) for example in examples]
        return self._head.unlearned(self._features(examples), names, self._learned)


class FunctionTeacher:
    """A user's function.

    Args:
        function: See `Function`.
        task: The task.
        name: Name to display.
    """

    def __init__(self, function: Function, task: Task, name: str) -> None:
        self.name, self._function, self._task = name, function, task

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`.

        Raises:
            BortError: The function returns too few or too many answers, or an invalid one.
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
    """A teacher that labels each text once; with a file, even if the run is resumed.

    Asking a command or a function again may cost money or give another answer.

    Args:
        teacher: The teacher.
        task: The task.
        file: JSON lines, one per text, appended and synced; None for a teacher that keeps its answers itself, and that
            may know more when the run is resumed.
    """

    def __init__(self, teacher: Teacher, task: Task, file: Path | None) -> None:
        self.name, self._teacher, self._task, self._file = teacher.name, teacher, task, file
        self._known: dict[tuple[str, str | None], list[float]] = {}
        if file is not None and file.is_file():
            content = file.read_text("utf-8")
            whole = content[: content.rfind("\n") + 1]  # a killed process may leave an incomplete line
            for line in whole.splitlines():
                row = json.loads(line)
                self._known[row["text"], row["text_b"]] = row["says"]
            if whole != content:
                with write_aside(file) as out:
                    out.write(whole)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`."""
        new = {(e.text, e.text_b): e for e in examples if (e.text, e.text_b) not in self._known}
        if new:
            says = self._teacher(list(new.values())).tolist()
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as out:
                    for (text, text_b), row in zip(new, says, strict=True):
                        out.write(json.dumps({"text": text, "text_b": text_b, "says": row}) + "\n")
                    out.flush()
                    os.fsync(out.fileno())
            self._known |= dict(zip(new, says, strict=True))
        return np.array([self._known[e.text, e.text_b] for e in examples]).reshape(len(examples), self._task.outputs)


def heard(task: Task, says: Says, targets: Targets) -> Says:
    """Replace a teacher's unknown answers by wrong ones, or by the mean value for a regression.

    Args:
        task: The task.
        says: Answers of the teacher, see `Teacher.__call__`.
        targets: See `Task.targets`.
    """
    unknown = np.isnan(says).any(-1, keepdims=True)
    return np.where(unknown, task.mistaken(targets), says) if len(says) else says


def teacher_scores(task: Task, says: Says, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
    """Return all scores of a teacher's answers; unknown ones count as wrong (see `heard`).

    Args:
        task: The task.
        says: Answers of the teacher, see `Teacher.__call__`.
        targets: See `Task.targets`.
        resamples: Bootstrap resamples for the confidence intervals.
    """
    return task.score(heard(task, says, targets), targets, resamples=resamples)


def judged(task: Task, says: Says, targets: Targets) -> float:
    """Return the task's own score of a teacher's answers; see `teacher_scores`."""
    return teacher_scores(task, says, targets, resamples=0)[task.metric].value
