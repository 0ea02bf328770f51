"""The last trainings, from one start in different orders of the data, and the average of their weights.

Weights that were fine-tuned from one start lie in one basin, and their mean errs less than each of them (Wortsman et
al., "Model soups", arXiv 2203.05482). It answers as fast as one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Point, Slot, Trial
from bort.agora.session import Session
from bort.agora.trial import TextLearner, TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.linear_head import loss_of
from bort.progress import console
from bort.tasks.task import Says

_BARRIER = 0.02
"""Weights of different basins have a mean that has forgotten even the labels that all of them know."""
_MOST_CHECKED = 1000


@dataclass(frozen=True)
class LastTraining:
    """A training whose length is known, and all that it needs: this is what goes to other processes.

    Args:
        learner: Fits.
        theta: The combination.
        points: What is learned from.
        epochs: Passes over it.
        with_vectors: Whether a teacher's vectors are learned, too.
    """

    learner: TextLearner
    theta: Theta
    points: Sequence[Point]
    epochs: int
    with_vectors: bool = False

    def __call__(self, slot: Slot) -> TrainedWeights:
        """Train in the order of a slot."""
        return self.learner.refit(self.theta, self.points, slot, epochs=self.epochs, with_vectors=self.with_vectors)


def plain_training(session: Session, best: Trial[TrainedWeights]) -> LastTraining:
    """Fit the combination of a plain trial to all labels, for as many passes as it took to its best step."""
    train = session.data.train
    steps = math.ceil(len(train) / int(best.theta["batch_size"]))
    epochs = max(1, round(int(best.model.about["best_step"]) / steps))
    return LastTraining(session.learner, best.theta, _softened(session, best), epochs)


def _softened(session: Session, best: Trial[TrainedWeights]) -> list[Point]:
    """All labelled examples; half of each label may be what a linear head says that was fitted without it.

    Who learns bare labels learns to be certain of all, also of a mistaken one. But the head must know better how far to
    be certain: on the development data, which neither has learned, its log-loss must be below that of the trial.
    """
    task, head, examples = session.task, session.head, [*session.data.train, *session.data.dev]
    points = session.points(examples)
    # Thresholds are chosen by a model of bare labels, and must suit the result.
    if head is None or session.out_of_fold is None or session.arguments.labels == "hard" or task.kind == "multilabel":
        return points
    theirs = task.says(np.array(best.answers, np.float32))
    if loss_of(task, head.says, head.truth) >= loss_of(task, theirs, head.truth):
        return points
    says = task.mean([task.certain(task.targets(examples)), session.out_of_fold])
    made = task.taught(says, hard=False, temperature=1.0)
    return [Point(x, y) for x, y in zip(examples, made, strict=True)]


def opinion(session: Session, training: LastTraining, numbers: Sequence[int], texts: Sequence[Example]) -> Says:
    """What several trainings say of texts in the mean. *Shape:* (examples, outputs)."""
    return session.task.mean([session.learner.says(model, texts) for model in trained(session, training, numbers)])


def trained(session: Session, training: LastTraining, numbers: Sequence[int]) -> list[TrainedWeights]:
    """Train once for each number, in an order of its own.

    What was done before a run was interrupted is read from its journal. When time is up no other begins.

    Raises:
        DivergedError: No training gave finite numbers.
    """
    kept = {number: known for number in numbers if (known := session.journal.final(number)) is not None}
    left = [number for number in numbers if number not in kept]

    def slots() -> Iterator[Slot]:
        for place, number in enumerate(left):
            if (kept or place) and session.clock.is_up():
                return
            yield Slot(0, number)

    failed: list[Exception] = []
    with session.display.shown():
        for result in session.workers.map(training, slots()):
            if result.error is not None:
                failed.append(result.error)
            else:
                kept[left[result.place]] = session.journal.keep_final(left[result.place], result.value)
    if not kept:
        raise failed[0]
    return [kept[number] for number in sorted(kept)]


def averaged(learner: TextLearner, models: Sequence[TrainedWeights], known: Sequence[Point]) -> TrainedWeights:
    """The mean of the weights of models with one start; one of them where the mean has lost what each has learned.

    Args:
        learner: Judges.
        models: At least one.
        known: What all have learned from.
    """
    known = known[:_MOST_CHECKED]
    scored = [(model, score) for model in models if (score := _score(learner, model, known)) is not None]
    if len(scored) < 2:
        return scored[0][0] if scored else models[0]
    weights = learner.fitter.averaged([model.read() for model, _ in scored])
    about: dict[str, Any] = {**models[0].about, "seconds": sum(model.about["seconds"] for model in models)}
    mean = TrainedWeights(weights, about=about)
    score = _score(learner, mean, known)
    if score is None or score < min(score for _, score in scored) - _BARRIER:
        console().print("the average of the last trainings has lost what each has learned: the first is the result")
        return scored[0][0]
    return mean


def _score(learner: TextLearner, model: TrainedWeights, known: Sequence[Point]) -> float | None:
    """How well a model knows what it has learned; None where its outputs are not finite numbers."""
    try:
        return learner.score(learner.predict(model, [point.x for point in known]), [point.y for point in known])
    except DivergedError:
        return None
