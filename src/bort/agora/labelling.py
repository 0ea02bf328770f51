"""Labels of new texts by the teacher, alone or with the student, and whether they are worth learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bort.agora.labellers import Teacher, heard, teacher_scores
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, calibrated, clearly_better, loss, pooled, weigh
from bort.agora.rounds import Round
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.progress import say
from bort.tasks.metrics import Score
from bort.tasks.task import Says, Targets, Task

OK_ISH = 2 / 3
"""A teacher below this accuracy gets a warning, and may not be used (arXiv 2010.07990 asks for an ok-ish one)."""

_LEAST_GAIN = 0.03
"""Labels worth learning must reduce the loss of a constant prediction by at least this share. It is above 0 because the
pooling weights are fitted to the same data, so that even a teacher that knows nothing gains a little."""


class Labelling:
    """Labels new texts according to the settings.

    Args:
        arguments: `labels`, `temperature`, `labelled_by` and `weak_teacher` of a run.
        task: The task.
        teacher: The teacher.
        train: The training data, whose label frequencies or mean value a teacher must beat.
        dev: The development data, by which teacher and student are weighted. Neither is fitted to them.
        student: Returns a model's predictions in the format of a teacher. *Shape:* (examples, outputs).
        out_of_fold: For a teacher whose head is finally fitted to all labels, the share of these that it predicts
            correctly out of fold; None for other teachers.
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
        """Scores of the teacher on the development data."""
        self.refused: str | None = None
        """Why nothing is learned from the teacher; None if something is, or before the first round has ended."""
        self._weights: Weights | None = None

    @property
    def fitted_task(self) -> Task:
        """The task with thresholds fitted to the teacher, if it has any."""
        return self._task.fitted(heard(self._task, self._says, self._truth), self._truth)

    @property
    def weak(self) -> bool:
        """Whether the teacher is right on less than two thirds of the data: of all labels, out of fold, if its head is
        fitted to them in the end; else of the development data."""
        if self._task.share_right is None:
            return False
        share = self.dev_scores[self._task.share_right].value if self._out_of_fold is None else self._out_of_fold
        return share < OK_ISH

    def announce(self) -> None:
        """Print the teacher and its score, and warn about a weak teacher."""
        metric = self._task.metric
        told = f"teacher: {self.teacher.name}, development {metric} {self.dev_scores[metric].value:.3f}"
        if self._out_of_fold is not None:
            told += f"; with all labels {self._task.share_right} {self._out_of_fold:.3f} out of fold"
        say(told)
        if self.weak:
            say(
                "the teacher is right in less than two thirds of the labelled data: what it teaches may do harm;"
                " name a better one with --teacher"
            )

    def worth_learning(self, first: Round[TrainedWeights]) -> bool:
        """Whether the labels are better than a constant prediction where the teacher answers, and the teacher is not
        weak, or at least clearly better than plain fine-tuning.

        If a teacher that labels alone is overconfident, its answers are calibrated first: of one that is always
        certain, a single wrong answer would cost more than many right ones are worth.
        """
        if self._settings.weak_teacher == "use":
            return True
        task, truth, student = self._task, self._truth, np.array(first.winner.answers)
        weights, said = self.weights(first), self._says.copy()
        known = np.asarray(~np.isnan(said).any(-1))
        if weights == TEACHER_ALONE:
            said[known] = calibrated(task, said[known], truth[known], most=1.0)
        else:
            said = pooled(task, weights, said, student)
        constant = np.where(known[:, None], self._always_the_same(), np.nan)  # on the same rows
        if loss(task, said, truth) >= (1 - _LEAST_GAIN) * loss(task, constant, truth):
            self.refused = "its labels are no better than the same answer to each text"
        elif not self.weak or clearly_better(
            *(
                task.fitted(says[known], truth[known]).errors(says[known], truth[known])
                for says in (self._says, student)
            )
        ):
            return True
        else:
            self.refused = "it is not clearly better than plain fine-tuning"
        say(
            "nothing is learned from the teacher, and the first round was the last: on the development texts that it "
            f"answers, {self.refused}; --weak-teacher use learns from it all the same"
        )
        return False

    def _always_the_same(self) -> Says:
        """Return the label frequencies, or the mean value, of the training data for each of the development data."""
        return np.tile(self._task.base_rates(self._task.targets(self._train)), (len(self._dev), 1))

    def weights(self, first: Round[TrainedWeights]) -> Weights:
        """Return the weights of teacher and student, fitted with the best model of the first round, because its
        training data do not depend on the development data."""
        if self._weights is None:
            self._weights = TEACHER_ALONE
            if self._settings.labelled_by == "both":
                self._weights = weigh(self._task, self._says, np.array(first.winner.answers), self._truth)
        return self._weights

    def __call__(self, examples: Sequence[Example], rounds: Sequence[Round[TrainedWeights]]) -> list[Any]:
        """Return labels for the loop, see `Task.taught`; None where the teacher does not know."""
        weights, says = self.weights(rounds[0]), self.teacher(examples)
        # A student with weight 0 need not predict.
        student = self._student(rounds[-1].winner.model, examples) if weights.student else np.zeros_like(says)
        task = deciding(self._task, weights, self._says, np.array(rounds[0].winner.answers), self._truth)
        return as_labels(self._settings, task, pooled(self._task, weights, says, student))


def deciding(task: Task, weights: Weights, teacher: Says, student: Says, truth: Targets) -> Task:
    """Return the task with thresholds, if it has any, for labels by teacher and student together.

    They are fitted to the labels of the development texts that the teacher answers.

    Args:
        task: The task.
        weights: Weights of both.
        teacher: The teacher's predictions on the development data, see `weigh`.
        student: The same for the student.
        truth: See `weigh`.
    """
    says = pooled(task, weights, teacher, student)
    known = np.asarray(~np.isnan(says).any(-1))
    return task.fitted(says[known], truth[known])


def as_labels(settings: FinetuneArguments, task: Task, says: Says) -> list[Any]:
    """Return labels for the loop, see `Task.taught`; None for rows of NaN.

    Args:
        settings: `labels` and `temperature`.
        task: The task, with thresholds for these labels.
        says: See `Teacher.__call__`.
    """
    known = np.asarray(~np.isnan(says).any(-1))
    made = iter(task.taught(says[known], hard=settings.labels == "hard", temperature=settings.temperature))
    return [next(made) if fine else None for fine in known]
