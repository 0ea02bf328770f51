"""The labels of new texts: what the teacher says, alone or with the student, and whether it is worth learning from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bort.agora.labellers import Teacher, heard, teacher_scores
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, clearly_better, loss, pooled, weigh
from bort.agora.rounds import Round
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.progress import console
from bort.tasks.metrics import Score
from bort.tasks.task import Says, Task

OK_ISH = 2 / 3
"""A teacher below this accuracy is warned of, and may teach nothing (arXiv 2010.07990 asks for an ok-ish one)."""

_LEAST_GAIN = 0.03
"""So much of the loss of the same answer to each text must be gone, or the labels are not worth learning: the powers of
the opinions, which are fitted to the same data, bring a little of it with a teacher that knows nothing."""


class Labelling:
    """Labels new texts, as the settings say.

    Args:
        arguments: `labels`, `temperature`, `labelled_by` and `weak_teacher` of a run.
        task: What is asked.
        teacher: Who labels.
        train: The training data, whose most frequent class or mean value a teacher must beat.
        dev: The development data, by which teacher and student are heard. None of them is fitted to these.
        student: What a model says of examples, as a teacher would. *Shape:* (examples, outputs).
        out_of_fold: Share that a teacher's head has right which learns from all labels in the end, each of them
            answered by a head that was fitted without it; None for other teachers.
    """

    def __init__(
        self,
        arguments: FinetuneArguments,
        task: Task,
        teacher: Teacher,
        train: Sequence[Example],
        dev: Sequence[Example],
        student: Callable[[TrainedWeights, Sequence[Example]], Says],
        out_of_fold: float | None = None,
    ) -> None:
        self._settings, self._task, self._student, self._out_of_fold = arguments, task, student, out_of_fold
        self.teacher = teacher
        self._train, self._dev, self._truth = train, dev, task.targets(dev)
        self._says = teacher(dev)
        self.dev_scores: dict[str, Score] = teacher_scores(task, self._says, self._truth)
        """What the teacher scores on the development data."""
        self._weights: Weights | None = None

    @property
    def fitted_task(self) -> Task:
        """The task with the teacher's own thresholds, where it has any."""
        return self._task.fitted(heard(self._task, self._says, self._truth), self._truth)

    @property
    def weak(self) -> bool:
        """Whether the teacher is right in less than two thirds: of all labels where it learns from them in the end,
        else of the development data."""
        if self._task.share_right is None:
            return False
        share = self.dev_scores[self._task.share_right].value if self._out_of_fold is None else self._out_of_fold
        return share < OK_ISH

    def announce(self) -> None:
        """Say who teaches, and warn of a weak teacher."""
        metric = self._task.metric
        told = f"teacher: {self.teacher.name}, development {metric} {self.dev_scores[metric].value:.3f}"
        if self._out_of_fold is not None:
            told += f"; with all labels {self._task.share_right} {self._out_of_fold:.3f} out of fold"
        console().print(told, soft_wrap=True)
        if self.weak:
            console().print(
                "the teacher is right in less than two thirds of the labelled data: what it teaches may do harm;"
                " name a better one with --teacher",
                soft_wrap=True,
            )

    def worth_learning(self, first: Round[TrainedWeights]) -> bool:
        """Whether the labels are better than answering always the same, and the teacher is good enough, or at least
        clearly better than what plain fine-tuning gave."""
        if self._settings.weak_teacher == "use":
            return True
        task, truth, student = self._task, self._truth, np.array(first.winner.answers)
        said = pooled(task, self.weights(first), self._says, student)
        if loss(task, said, truth) >= (1 - _LEAST_GAIN) * loss(task, self._always_the_same(), truth):
            rule = "the labels are no better there than the same answer to each text"
        elif not self.weak or clearly_better(
            *(task.fitted(says, truth).errors(says, truth) for says in (heard(task, self._says, truth), student))
        ):
            return True
        else:
            rule = "nor is the teacher clearly better there than plain fine-tuning"
        console().print(
            f"{rule}: nothing is learned from it, and the first round was the last; --weak-teacher use learns from it"
            " all the same",
            soft_wrap=True,
        )
        return False

    def _always_the_same(self) -> Says:
        """How often each label is among the training data, or the mean value, for each of the development data."""
        return np.tile(self._task.base_rates(self._task.targets(self._train)), (len(self._dev), 1))

    def weights(self, first: Round[TrainedWeights]) -> Weights:
        """What the teacher and the student count for: by the best model of the first round, whose training data owe
        nothing to the development data."""
        if self._weights is None:
            self._weights = TEACHER_ALONE
            if self._settings.labelled_by == "both":
                self._weights = weigh(self._task, self._says, np.array(first.winner.answers), self._truth)
        return self._weights

    def __call__(self, examples: Sequence[Example], rounds: Sequence[Round[TrainedWeights]]) -> list[Any]:
        """Labels for the loop, as of `Task.taught`; None where nobody knows."""
        weights, says = self.weights(rounds[0]), self.teacher(examples)
        # A student that is not heard need not be asked.
        student = self._student(rounds[-1].winner.model, examples) if weights.student else np.zeros_like(says)
        return as_labels(self._settings, self._task, pooled(self._task, weights, says, student))


def as_labels(settings: FinetuneArguments, task: Task, says: Says) -> list[Any]:
    """Labels for the loop, as of `Task.taught`; None for rows of NaN.

    Args:
        settings: `labels` and `temperature`.
        task: What is asked.
        says: As of `Teacher`.
    """
    known = np.asarray(~np.isnan(says).any(-1))
    made = iter(task.taught(says[known], hard=settings.labels == "hard", temperature=settings.temperature))
    return [next(made) if fine else None for fine in known]
