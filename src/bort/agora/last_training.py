"""The last training of a run: the chosen settings once more, on all labels and on all texts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np

from bort.agora.labellers import Teacher
from bort.agora.labelling import as_labels
from bort.agora.nearby import identity
from bort.agora.pooled_labels import TEACHER_ALONE, Weights, pooled, weigh
from bort.agora.rounds import AgoraResult, Point, Slot, Trial
from bort.agora.trial import TextLearner, TrainedWeights, usual_passes
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.task import Says

SLOT = Slot(0, 0)
_TOKENS = 1_000_000
_MOST_TEXTS = 30_000


class Taught(NamedTuple):
    """What a last training learns from.

    Attributes:
        points: All labelled examples, then texts with the labels that were made for them.
        epochs: Passes over them.
        weights: What the teacher and the student counted for in these labels.
        labelled: How many of the points a person has labelled.
    """

    points: list[Point]
    epochs: int
    weights: Weights
    labelled: int


def plain_epochs(best: Trial[TrainedWeights], train_size: int) -> int:
    """Passes over the data up to the step at which a trial scored best; one at least."""
    steps = math.ceil(train_size / int(best.theta["batch_size"]))
    return max(1, round(int(best.model.about["best_step"]) / steps))


def everything(
    arguments: FinetuneArguments,
    labelled: Sequence[Point],
    result: AgoraResult[TrainedWeights],
    learner: TextLearner,
    teacher: Teacher,
    heard: Says,
    truth: Any,
    pool: Sequence[Example],
    forbidden: AbstractSet[Hashable],
) -> Taught:
    """Label all texts by the teacher together with the mean of the last round's models.

    Args:
        arguments: Of the run.
        labelled: All labelled examples, which keep their labels.
        result: Of the rounds.
        learner: Asks their models.
        teacher: Fitted to all labels, where it is fitted here.
        heard: What it says of the development data, out of sample; by this the two are weighed.
        truth: Of the development data.
        pool: Texts without labels.
        forbidden: Identities of texts that nothing may learn from: the test's.
    """
    task, last = learner.fitter.task, result.rounds[-1]
    weights = TEACHER_ALONE
    if arguments.labelled_by == "both":
        weights = weigh(task, heard, task.mean([np.array(trial.answers) for trial in last.trials]), truth)
    texts = _texts(labelled, result, pool, forbidden)
    said = teacher(texts)
    student = (
        task.mean([learner.says(trial.model, texts) for trial in last.trials])
        if weights.student
        else np.zeros_like(said)
    )
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
    """What the rounds have added, and the rest of the pool, of which a sample where it is very large."""
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
