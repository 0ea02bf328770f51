"""The data of the last training: all labels, and all texts as teacher and students label them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from bort.agora.labellers import Teacher
from bort.agora.labelling import as_labels
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, calibrated, pooled, weigh
from bort.agora.rounds import AgoraResult, Point, Trial
from bort.agora.session import Session
from bort.agora.softened_labels import opinions_help
from bort.agora.trial import TextLearner, TrainedWeights, usual_passes
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.task import Says, Task

_TOKENS = 1_000_000
_MOST_TEXTS = 30_000
_LEAST_WEIGHT = 0.01
"""A student's weight below this is a remainder of the search for the weights, and not worth its predictions."""


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
    weights = weigh(task, heard, said, truth)
    if weights.student >= _LEAST_WEIGHT:
        return weights
    return weights._replace(student=0.0) if task.names else TEACHER_ALONE  # the weights of values are a mean's


def last_training_data(
    arguments: FinetuneArguments,
    task: Task,
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
        task: The task, with thresholds for these labels.
        labelled: All labelled examples, which keep their labels.
        result: Result of the rounds.
        learner: Counts the texts' tokens.
        teacher: The teacher, fitted to all labels if the run fits it.
        students: Returns the students' mean predictions; called only if they have a weight.
        weights: Weights of teacher and students.
        pool: Unlabelled texts.
        forbidden: Identities of texts that must not be learned: the test data.
    """
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
