"""The last trainings, from one start in different orders of the data, and the average of their weights.

Weights that were fine-tuned from one start lie in one basin, and their mean errs less than each of them (Wortsman et
al., "Model soups", arXiv 2203.05482). It answers as fast as one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Point, Slot, Trial
from bort.agora.session import Session
from bort.agora.trial import TextLearner, TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.linear_head import loss_of
from bort.progress import console
from bort.tasks.task import Says, Task

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
    return LastTraining(session.learner, best.theta, _softened(session, best), passes(session, best))


def passes(session: Session, best: Trial[TrainedWeights]) -> int:
    """How many passes over the training data a plain trial took to its best step."""
    steps = math.ceil(len(session.data.train) / int(best.theta["batch_size"]))
    return max(1, round(int(best.model.about["best_step"]) / steps))


def _softened(session: Session, best: Trial[TrainedWeights]) -> list[Point]:
    """All labelled examples, with the opinions of a linear head where those help."""
    examples = [*session.data.train, *session.data.dev]
    if session.out_of_fold is None or not opinions_help(session, best):
        return session.points(examples)
    return with_opinions(session.task, examples, session.task.targets(examples), session.out_of_fold)


def opinions_help(session: Session, best: Trial[TrainedWeights]) -> bool:
    """Whether a linear head knows better than a plain trial how far to be certain.

    Who learns bare labels learns to be certain of all, also of a mistaken one. But the head's log-loss must be below
    that of the trial on the development data, which neither has learned.
    """
    task, head = session.task, session.head
    # Thresholds are chosen by a model of bare labels, and must suit the result.
    if head is None or session.arguments.labels == "hard" or task.kind == "multilabel":
        return False
    theirs = task.says(np.array(best.answers, np.float32))
    return loss_of(task, head.says, head.truth) < loss_of(task, theirs, head.truth)


def with_opinions(task: Task, examples: Sequence[Example], targets: NDArray[Any], opinions: Says) -> list[Point]:
    """Examples of which half of each label is what a linear head says that was fitted without them.

    Args:
        task: What is asked.
        examples: Labelled.
        targets: Their labels.
        opinions: *Shape:* (examples, outputs).
    """
    made = task.taught(task.mean([task.certain(targets), opinions]), hard=False, temperature=1.0)
    return [Point(x, y) for x, y in zip(examples, made, strict=True)]


def opinion(session: Session, training: LastTraining, numbers: Sequence[int], texts: Sequence[Example]) -> Says:
    """What several trainings say of texts in the mean. *Shape:* (examples, outputs)."""
    return session.task.mean([session.learner.says(model, texts) for model in trained(session, training, numbers)])


def trained(
    session: Session, training: Callable[[Slot], TrainedWeights], numbers: Sequence[int]
) -> list[TrainedWeights]:
    """Train once for each number, in an order of its own.

    What was done before a run was interrupted is read from its journal. When time is up no other begins.

    Args:
        session: The run.
        training: What goes to wherever trials run; a slot's place is the number.
        numbers: Of this training among all that follow the trials.

    Returns:
        In the order of the numbers, without those that failed or for which there was no time.

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
    with session.display.trainings(0, len(left)):
        for result in session.workers.map(training, slots()):
            session.display.ended()
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
