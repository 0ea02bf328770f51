"""Comparisons on the development data: is a model of new texts to be preferred to plain fine-tuning?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bort.agora.pooled_labels import calibrated
from bort.agora.rounds import AgoraResult, Point, Trial
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.tasks.task import Outputs, Targets, Task

_RESAMPLES = 300
"""Resamples of the development data, enough for a standard error to within 5 %."""


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
