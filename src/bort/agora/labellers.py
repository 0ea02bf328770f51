"""Who labels new points: a classifier, an encoder with a head, a command, a function of the user's."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bort.agora.nearby import Embedding
from bort.agora.pooled_labels import Says, normalised
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.files import write_aside
from bort.finetuning.splits import Splits
from bort.predict.predictor import Predictor
from bort.progress import bar, in_parts
from bort.tasks.baselines import INVERSE_REGULARISATIONS
from bort.tasks.metrics import Score
from bort.tasks.task import Task

Answer = str | float | Mapping[str, float] | None
Function = Callable[[Sequence[str | tuple[str, str]]], Sequence[Answer]]
"""Labels texts, or pairs of texts: each with a label, a value, probabilities of labels, or None if it does not know."""


class Teacher(Protocol):
    """Labels examples."""

    @property
    def name(self) -> str:
        """For people."""

    def __call__(self, examples: Sequence[Example]) -> Says:
        """Log-probabilities of the task's classes, *shape* (examples, classes), or values, *shape* (examples, 1).

        A row of NaN: the teacher does not know.
        """


class ClassifierTeacher:
    """A fine-tuned classifier or regressor, in any engine: a model's folder, a hub name, or a folder of `bort export`.

    Args:
        model: Its name.
        task: What is asked.

    Raises:
        BortError: It cannot be loaded, or it answers another question.
    """

    def __init__(self, model: str, task: Task) -> None:
        self.name, self._task, self._predictor = model, task, Predictor(model)
        theirs = self._predictor.task
        if theirs.kind != task.kind:
            raise BortError(f"the teacher must be made for {task.kind}", file=model, value=theirs.kind)
        missing = [name for name in task.names if name not in theirs.names]
        if missing:
            rule = f"the teacher must know each label of the data; it knows {', '.join(theirs.names[:12])}"
            raise BortError(rule, file=model, value=missing[0])
        self._columns = [theirs.names.index(name) for name in task.names]

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`."""
        parts = [self._predictor.logits(part) for part in in_parts(f"{self.name} answers", examples)]
        if not parts:
            return np.zeros((0, self._task.outputs))
        logits = np.vstack(parts).astype(np.float64)
        return logits if self._task.kind == "regression" else normalised(logits[:, self._columns])


class HeadTeacher:
    """A frozen encoder with logistic regression, or ridge regression, on its embeddings.

    Its regularisation is chosen on the development data.

    Args:
        embedding: The encoder.
        data: What the head is fitted to.
    """

    def __init__(self, embedding: Embedding, data: Splits) -> None:
        from sklearn.linear_model import LogisticRegression, Ridge

        self.name = f"{embedding.model} with a linear head"
        self._embedding, self._task = embedding, data.task
        x, y = embedding.features(data.train), data.task.targets(data.train)
        self._classes = np.unique(y)
        dev = data.task.targets(data.dev)
        best = -math.inf
        for c in INVERSE_REGULARISATIONS:
            regression = data.task.kind == "regression"
            head: Any = (Ridge(alpha=1 / c) if regression else LogisticRegression(C=c, max_iter=5000)).fit(x, y)
            score = judged(data.task, self._say(head, data.dev), dev)
            if score > best:
                best, self._head = score, head

    def _say(self, head: Any, examples: Sequence[Example]) -> Says:
        x = self._embedding.features(examples)
        if self._task.kind == "regression":
            return np.asarray(head.predict(x), dtype=np.float64).reshape(-1, 1)
        says = np.full((len(examples), self._task.outputs), -np.inf)
        says[:, self._classes] = head.predict_log_proba(x)
        return says

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`."""
        return self._say(self._head, examples)


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
        return np.array([self._row(answer) for answer in answers])

    def _row(self, answer: Answer) -> list[float]:
        names = self._task.names
        if answer is None or answer == "":
            return [math.nan] * self._task.outputs
        try:
            if self._task.kind == "regression":
                return [float(answer)]  # type: ignore[arg-type]
            if isinstance(answer, Mapping):
                shares = {str(name): float(share) for name, share in answer.items()}
                total = sum(shares.values())
                if {*shares} <= {*names} and total > 0 and min(shares.values()) >= 0:
                    return [math.log(share / total) if (share := shares.get(n, 0.0)) else -math.inf for n in names]
            elif str(answer) in names:
                return [0.0 if name == str(answer) else -math.inf for name in names]
        except (TypeError, ValueError):
            pass
        rule = (
            "must answer with a number" if not names else f"must answer with {', '.join(names[:12])} or probabilities"
        )
        raise BortError(f"the teacher {self.name} {rule}", value=answer)


def command_teacher(command: str, task: Task) -> FunctionTeacher:
    """A command that reads a JSON object with `text` (and `text_b`) a line, and writes a label or JSON for each."""

    def ask(texts: Sequence[str | tuple[str, str]]) -> list[Answer]:
        rows = [{"text": t} if isinstance(t, str) else {"text": t[0], "text_b": t[1]} for t in texts]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        try:
            words = shlex.split(command)
            done = subprocess.run(words, input=lines, capture_output=True, encoding="utf-8", check=False)
        except OSError as error:
            raise BortError(f"cannot be run: {error.strerror}", setting="teacher_command", value=command) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it wrote nothing to standard error"])[-1]
            rule = f"failed with status {done.returncode}: {last}"
            raise BortError(rule, setting="teacher_command", value=command)
        return [_parsed(line) for line in done.stdout.splitlines()]

    return FunctionTeacher(ask, task, command)


def _parsed(line: str) -> Answer:
    """A JSON object as it is, anything else as the label that it spells."""
    line = line.strip()
    if line.startswith(("{", '"')):
        try:
            value = json.loads(line)
        except ValueError:
            return line
        return value if isinstance(value, dict | str) else line
    return line


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


def decided(task: Task, says: Says) -> Any:
    """The likeliest class of each row, or the value. *Shape:* (rows,). Where the teacher does not know: -1, or NaN."""
    if task.kind == "regression":
        return says[:, 0].astype(np.float32)
    return np.where(np.isnan(says).any(-1), -1, np.nan_to_num(says, nan=-np.inf).argmax(-1))


def teacher_scores(task: Task, says: Says, targets: Any, *, resamples: int = 1000) -> dict[str, Score]:
    """All scores of what a teacher says.

    What it does not know counts as wrong: as a class that is not the right one, or as the mean of the values.

    Args:
        task: What is asked.
        says: As of `Teacher`.
        targets: Classes or values. *Shape:* (rows,).
        resamples: Of the confidence intervals.
    """
    answers, unknown = decided(task, says), np.isnan(says).any(-1)
    answers[unknown] = targets.mean() if task.kind == "regression" else (targets[unknown] + 1) % task.outputs
    return task.judge(answers, targets, resamples=resamples)


def judged(task: Task, says: Says, targets: Any) -> float:
    """The task's own score of what a teacher says; see `teacher_scores`."""
    return teacher_scores(task, says, targets, resamples=0)[task.metric].value
