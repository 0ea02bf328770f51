"""The last training of a run: the chosen combination once more, on all labels and all texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bort.agora.labellers import Teacher
from bort.agora.labelling import as_labels
from bort.agora.nearby import identity
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, pooled, weigh
from bort.agora.rounds import AgoraResult, Point
from bort.agora.trial import TextLearner, TrainedWeights, usual_passes
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.task import Outputs, Says, Targets, Task

_TOKENS = 1_000_000
_MOST_TEXTS = 30_000


class Taught(NamedTuple):
    """The data of a last training.

    Attributes:
        points: All labelled examples, then texts labelled by teacher and student.
        epochs: Number of epochs.
        weights: Weights of teacher and student in these labels.
        labelled: Number of points with given labels.
    """

    points: list[Point]
    epochs: int
    weights: Weights
    labelled: int


def preferring_grown(
    result: AgoraResult[TrainedWeights], task: Task, dev: Sequence[Point]
) -> AgoraResult[TrainedWeights]:
    """Return the result with the best model trained on new texts, unless plain fine-tuning is better.

    Better means by more than the standard error of their difference on the development data: these are few, and the
    last training learns from far more texts than any round.

    Args:
        result: Result of the rounds.
        task: Measures the error of each answer.
        dev: The development data.
    """
    later = [trial for done in result.rounds[1:] for trial in done.trials]
    if result.best_round > 1 or not later:
        return result
    # The latest on ties, as in the journal, which keeps the weights of no other.
    grown, truth = max(reversed(later), key=lambda trial: trial.rank), task.collected([point.y for point in dev])
    plain, made = (_errors(task, np.array(trial.answers, np.float32), truth) for trial in (result.best, grown))
    behind = made - plain
    error = float(behind.std(ddof=1)) / math.sqrt(len(behind)) if len(behind) > 1 else 0.0
    return replace(result, best=grown) if behind.mean() <= error else result


def _errors(task: Task, outputs: Outputs, truth: Targets) -> Says:
    """Return the error of each answer, with thresholds fitted to these data if any. *Shape:* -> (examples,)."""
    return task.fitted(outputs, truth).errors(outputs, truth)


def everything(
    arguments: FinetuneArguments,
    labelled: Sequence[Point],
    result: AgoraResult[TrainedWeights],
    learner: TextLearner,
    teacher: Teacher,
    students: Callable[[Sequence[Example]], Says],
    heard: Says,
    truth: Any,
    pool: Sequence[Example],
    forbidden: AbstractSet[Hashable],
) -> Taught:
    """Label all texts by the teacher together with students that have learned all labels.

    Their weights are fitted to predictions of the teacher and of the last round's models (averaged) on the development
    data, which neither has learned.

    Args:
        arguments: Settings of the run.
        labelled: All labelled examples, which keep their labels.
        result: Result of the rounds.
        learner: Counts the texts' tokens.
        teacher: The teacher, fitted to all labels if the run fits it.
        students: Returns the students' mean predictions; called only if they have a weight.
        heard: The teacher's out-of-sample predictions on the development data, to which the weights are fitted.
        truth: Targets of the development data.
        pool: Unlabelled texts.
        forbidden: Identities of texts that must not be learned: the test data.
    """
    task, last = learner.fitter.task, result.rounds[-1]
    weights = TEACHER_ALONE
    if arguments.labelled_by == "both":
        weights = weigh(task, heard, task.mean([np.array(trial.answers) for trial in last.trials]), truth)
    texts = _texts(labelled, result, pool, forbidden)
    said = teacher(texts)
    student = students(texts) if weights.student else np.zeros_like(said)
    labels = as_labels(arguments, task, pooled(task, weights, said, student))
    points = [*labelled, *(Point(x, y) for x, y in zip(texts, labels, strict=True) if y is not None)]
    tokens = sum(learner.fitter.tokens([point.x for point in points]).lengths)
    epochs = arguments.final_epochs or usual_passes(tokens, tokens=_TOKENS, least=3, most=15)
    return Taught(points, epochs, weights, len(labelled))


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
