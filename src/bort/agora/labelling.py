"""The labels of new texts: what the teacher says, alone or with the student, and whether it is worth learning from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bort.agora.labellers import Teacher, decided, teacher_scores
from bort.agora.pooled_labels import TEACHER_ALONE, Says, Weights, clearly_better, normalised, pooled, weigh
from bort.agora.rounds import Round
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.progress import console
from bort.tasks.metrics import Score
from bort.tasks.task import Task

OK_ISH = 2 / 3
"""A teacher below this accuracy is warned of, and may teach nothing (arXiv 2010.07990 asks for an ok-ish one)."""


class Labelling:
    """Labels new texts, as the settings say.

    Args:
        arguments: `labels`, `temperature`, `labelled_by` and `weak_teacher` of a run.
        task: What is asked.
        teacher: Who labels.
        dev: The development data, by which teacher and student are heard.
        student: What a model says of examples, as raw outputs. *Shape:* (examples, outputs).
    """

    def __init__(
        self,
        arguments: FinetuneArguments,
        task: Task,
        teacher: Teacher,
        dev: Sequence[Example],
        student: Callable[[TrainedWeights, Sequence[Example]], Any],
    ) -> None:
        self._settings, self._task, self._student = arguments, task, student
        self.teacher = teacher
        self._dev, self._truth = dev, task.targets(dev)
        self._says = teacher(dev)
        self.dev_scores: dict[str, Score] = teacher_scores(task, self._says, self._truth)
        """What the teacher scores on the development data."""
        self._weights: Weights | None = None

    @property
    def weak(self) -> bool:
        """Whether the teacher is right in less than two thirds of the development data."""
        return bool(self._task.names) and self.dev_scores["accuracy"].value < OK_ISH

    def announce(self) -> None:
        """Say who teaches, and warn of a weak teacher."""
        metric = self._task.metric
        console().print(f"teacher: {self.teacher.name}, development {metric} {self.dev_scores[metric].value:.3f}")
        if self.weak:
            console().print(
                "the teacher is right in less than two thirds of the development data: what it teaches may do harm;"
                " name a better one with --teacher",
                soft_wrap=True,
            )

    def worth_learning(self, first: Round[TrainedWeights]) -> bool:
        """Whether the teacher is good enough, or at least clearly better than what plain fine-tuning gave."""
        if self._settings.weak_teacher == "use" or not self.weak:
            return True
        worth = clearly_better(
            decided(self._task, self._says) == self._truth, np.array(first.winner.answers) == self._truth
        )
        if not worth:
            console().print(
                "nor is the teacher clearly better there than plain fine-tuning: nothing is learned from it, and the"
                " first round was the last; --weak-teacher use learns from it all the same",
                soft_wrap=True,
            )
        return worth

    def weights(self, first: Round[TrainedWeights]) -> Weights:
        """What the teacher and the student count for: by the best model of the first round, whose training data owe
        nothing to the development data."""
        if self._weights is None:
            self._weights = TEACHER_ALONE
            if self._settings.labelled_by == "both":
                self._weights = weigh(self._says, self._said_by(first, self._dev), self._truth)
        return self._weights

    def __call__(self, examples: Sequence[Example], rounds: Sequence[Round[TrainedWeights]]) -> list[Any]:
        """Labels for the loop: classes, distributions over them (tuples), or values; None where nobody knows."""
        weights, says = self.weights(rounds[0]), self.teacher(examples)
        # A student that is not heard need not be asked.
        student = self._said_by(rounds[-1], examples) if weights.student else np.zeros_like(says)
        says = pooled(weights, says, student)
        known = [not np.isnan(row).any() for row in says]
        if self._task.kind == "regression":
            return [float(row[0]) if fine else None for row, fine in zip(says, known, strict=True)]
        if self._settings.labels == "hard":
            return [int(row.argmax()) if fine else None for row, fine in zip(says, known, strict=True)]
        p = np.exp(normalised(says / self._settings.temperature)).round(6)
        return [tuple(row.tolist()) if fine else None for row, fine in zip(p, known, strict=True)]

    def _said_by(self, done: Round[TrainedWeights], examples: Sequence[Example]) -> Says:
        """What the best model of a round says, as a teacher would."""
        outputs: Says = self._student(done.winner.model, examples).astype(np.float64)
        return outputs if self._task.kind == "regression" else normalised(outputs)
