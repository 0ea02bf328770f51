"""The last training of a run: the chosen combination once more, on all labels and all texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bort.agora.averaging import opinions_help
from bort.agora.labellers import Teacher
from bort.agora.labelling import as_labels
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, calibrated, pooled, weigh
from bort.agora.rounds import AgoraResult, Point, Trial
from bort.agora.session import Session
from bort.agora.trial import TextLearner, TrainedWeights, usual_passes
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.task import Outputs, Says, Targets, Task

_TOKENS = 1_000_000
_MOST_TEXTS = 30_000
_RESAMPLES = 300
"""Resamples of the development data, enough for a standard error to within 5 %."""


class Taught(NamedTuple):
    """The data of a last training.

    Attributes:
        points: All labelled examples, then texts labelled by teacher and student.
        epochs: Number of epochs.
        weights: Weights of teacher and student in these labels.
    """

    points: list[Point]
    epochs: int
    weights: Weights


def preferring_grown(
    result: AgoraResult[TrainedWeights], task: Task, dev: Sequence[Point]
) -> AgoraResult[TrainedWeights]:
    """Return the result with the best model trained on new texts, unless plain fine-tuning is better.

    Better means by more than the standard error of their difference on the development data: these are few, and the
    last training learns from far more texts than any round. The difference is that of `shortfall`.

    Args:
        result: Result of the rounds.
        task: Measures the answers.
        dev: The development data.
    """
    later = [trial for done in result.rounds[1:] for trial in done.trials]
    if result.best_round > 1 or not later:
        return result
    # The latest on ties, as in the journal, which keeps the weights of no other.
    grown, truth = max(reversed(later), key=lambda trial: trial.rank), task.collected([point.y for point in dev])
    plain, made = (np.array(trial.answers, np.float32) for trial in (result.best, grown))
    behind, error = shortfall(task, plain, made, truth)
    return replace(result, best=grown) if behind <= error else result


def shortfall(task: Task, one: Outputs, other: Outputs, truth: Targets) -> tuple[float, float]:
    """Return by how much other predictions are worse on the same data, and the standard error of that.

    The difference is that of the task's metric; of the errors where the metric is the share of right answers, and for a
    regression. Thresholds, if any, are fitted to these data.

    Args:
        task: Measures the predictions.
        one: Predictions. *Shape:* (examples, outputs).
        other: Those that may be worse. *Shape:* (examples, outputs).
        truth: See `Task.targets`.

    Example:
        >>> from bort.tasks.classification import Classification
        >>> right, wrong = np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 1, 0, 0]]
        >>> shortfall(Classification(("a", "b"), "accuracy"), right, wrong, np.array([0, 1, 0, 1]))
        (0.25, 0.25)
    """
    counts_errors = task.metric == task.share_right or not task.names
    return (_more_errors if counts_errors else _less_score)(task, one, other, truth)


def _more_errors(task: Task, one: Outputs, other: Outputs, truth: Targets) -> tuple[float, float]:
    """Return by how much the mean error is greater, and the standard error of that."""
    before, after = (task.fitted(outputs, truth).errors(outputs, truth) for outputs in (one, other))
    more = after - before
    return float(more.mean()), float(more.std(ddof=1)) / math.sqrt(len(more)) if len(more) > 1 else 0.0


def _less_score(task: Task, one: Outputs, other: Outputs, truth: Targets) -> tuple[float, float]:
    """Return by how much the metric is lower, and the standard error of that by a paired bootstrap.

    Metrics such as the macro F1 are no mean over the examples. Thresholds, if any, are fitted once.
    """
    fitted = [(task.fitted(outputs, truth), outputs) for outputs in (one, other)]

    def less(rows: NDArray[np.intp]) -> float:
        before, after = (
            own.score(outputs[rows], truth[rows], resamples=0)[task.metric].value for own, outputs in fitted
        )
        return before - after

    rng, count = np.random.default_rng(0), len(truth)
    resampled = [less(rng.integers(count, size=count)) for _ in range(_RESAMPLES)]
    return less(np.arange(count)), float(np.std(resampled, ddof=1))


def clearly_improves(
    task: Task, plain: Trial[TrainedWeights], grown: Trial[TrainedWeights], dev: Sequence[Example]
) -> bool:
    """Whether new texts lower the log-loss on the development data by more than two standard errors.

    Both predictions are calibrated first: the plain trial has learned hard labels and is overconfident. Chance decides
    less about the log-loss of a few hundred texts than about their score.
    """
    truth = task.targets(list(dev))
    before, after = (
        task.losses(calibrated(task, task.says(np.array(trial.answers)), truth), truth) for trial in (plain, grown)
    )
    less = before - after
    return len(less) > 1 and bool(less.mean() > 2 * less.std(ddof=1) / math.sqrt(len(less)))


def weights_of_labels(session: Session, heard: Says, plain: Trial[TrainedWeights]) -> Weights:
    """Return the weights of the teacher and the plain models of all labels in the labels of the last training.

    They are fitted to predictions on the development data that neither has learned: those of the plain model of the
    training data stand for those models.

    Args:
        session: The run.
        heard: The teacher's out-of-sample predictions on the development data.
        plain: The best plain trial. The last round's models have learned from the teacher, and would take its weight.
    """
    task, said = session.task, np.array(plain.answers)
    if session.arguments.labelled_by != "both":
        return TEACHER_ALONE
    truth = task.targets(session.data.dev)
    if opinions_help(session, plain):
        # It has learned bare labels and is overconfident; the models that it stands for have not and are not.
        said = calibrated(task, said, truth)
    return weigh(task, heard, said, truth)


def everything(
    arguments: FinetuneArguments,
    labelled: Sequence[Point],
    result: AgoraResult[TrainedWeights],
    learner: TextLearner,
    teacher: Teacher,
    students: Callable[[Sequence[Example]], Says],
    weights: Weights,
    pool: Sequence[Example],
    forbidden: AbstractSet[Hashable],
) -> Taught:
    """Label all texts by the teacher together with students that have learned all labels.

    Args:
        arguments: Settings of the run.
        labelled: All labelled examples, which keep their labels.
        result: Result of the rounds.
        learner: Counts the texts' tokens.
        teacher: The teacher, fitted to all labels if the run fits it.
        students: Returns the students' mean predictions; called only if they have a weight.
        weights: Weights of teacher and students.
        pool: Unlabelled texts.
        forbidden: Identities of texts that must not be learned: the test data.
    """
    task = learner.fitter.task
    texts = _texts(labelled, result, pool, forbidden)
    said = teacher(texts)
    student = students(texts) if weights.student else np.zeros_like(said)
    labels = as_labels(arguments, task, pooled(task, weights, said, student))
    points = [*labelled, *(Point(x, y) for x, y in zip(texts, labels, strict=True) if y is not None)]
    tokens = sum(learner.fitter.tokens([point.x for point in points]).lengths)
    epochs = arguments.final_epochs or usual_passes(tokens, tokens=_TOKENS, least=3, most=15)
    return Taught(points, epochs, weights)


def _texts(
    labelled: Sequence[Point],
    result: AgoraResult[TrainedWeights],
    pool: Sequence[Example],
    forbidden: AbstractSet[Hashable],
) -> list[Example]:
    """Return the texts that the rounds added, and the rest of the pool, or a random sample of it if it is large."""
    known = {identity(point.x) for point in labelled} | {*forbidden}
    found: dict[Hashable, Example] = {}
    for done in result.rounds:
        for point in done.growth.points:
            found.setdefault(identity(point.x), point.x)
    rest = {name: text for text in pool if (name := identity(text)) not in found}
    names = sorted(rest, key=str) if len(rest) + len(found) > _MOST_TEXTS else list(rest)
    if len(names) > (room := max(0, _MOST_TEXTS - len(found))):
        names = [names[place] for place in np.random.default_rng(0).permutation(len(names))[:room]]
    return [text for name, text in (found | {name: rest[name] for name in names}).items() if name not in known]
