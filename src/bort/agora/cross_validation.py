"""What fine-tuned models say of labelled texts that they have not learned, where few labels are all there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.agora.averaging import opinions_help, passes, trained, with_opinions
from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Point, Slot, Trial
from bort.agora.session import Session
from bort.agora.trial import TextLearner, TrainedWeights
from bort.finetuning.linear_head import fit_linear_head
from bort.finetuning.student_head import StudentHead, text_group
from bort.tasks.task import Says

_FIRST = 1000
"""Number of the first fold's training in the journal; the last trainings have the numbers below."""
_MOST = 500
"""With more labels a fifth of them tells apart what differs."""


@dataclass(frozen=True)
class FoldTraining:
    """Trainings of one combination, one for each fold, on what is not in it. This is what goes to other processes.

    Args:
        learner: Fits.
        theta: The combination.
        points: What each fold's training learns from.
        epochs: Passes over it.
    """

    learner: TextLearner
    theta: Theta
    points: Sequence[Sequence[Point]]
    epochs: int

    def __call__(self, slot: Slot) -> TrainedWeights:
        """Train for a slot's fold."""
        points = self.points[slot.place - _FIRST]
        return self.learner.refit(self.theta, points, slot, epochs=self.epochs, with_vectors=False)


def out_of_fold(session: Session, head: StudentHead, best: Trial[TrainedWeights]) -> Says | None:
    """What models of one combination say of training and development data, each fitted to the other folds.

    The folds are those of the linear head, so that the two can be compared on all labels, and not only on the fifth
    that was split off. Each training takes as many passes as the combination took to its best step.

    Args:
        session: A run, perhaps resumed.
        head: Its linear head.
        best: The trial of the combination.

    Returns:
        *Shape:* (examples, outputs). None where development data were given, labels are many or the result does not
        learn them all, and where time is up or a training diverged.
    """
    data, arguments = session.data, session.arguments
    examples = [*data.train, *data.dev]
    if arguments.dev or data.suite or not arguments.refit or len(examples) > _MOST:
        return None
    folds, soft = head.whole.folds, opinions_help(session, best)
    numbers = range(_FIRST, _FIRST + int(folds.max()) + 1)
    points = [_without(session, head, folds == fold, soft=soft) for fold in range(len(numbers))]
    training = FoldTraining(session.learner, best.theta, points, passes(session, best))
    try:
        models = trained(session, training, numbers)
        if len(models) < len(numbers):
            return None
        says = np.zeros((len(examples), session.task.outputs))
        for number, model in zip(numbers, models, strict=True):
            own = np.flatnonzero(folds == number - _FIRST)
            says[own] = session.learner.says(model, [examples[place] for place in own])
    except DivergedError:
        return None
    return says


def _without(session: Session, head: StudentHead, fold: NDArray[np.bool_], *, soft: bool) -> list[Point]:
    """What the last training would learn from if a fold's labels were not known."""
    places, task = np.flatnonzero(~fold), session.task
    everything = [*session.data.train, *session.data.dev]
    examples = [everything[place] for place in places]
    if not soft:
        return session.points(examples)
    features = {head.whole.pooling: head.features[head.whole.pooling][places]}
    groups = [text_group(example) for example in examples]
    opinions = fit_linear_head(features, head.targets[places], task, groups=groups).out_of_fold
    return with_opinions(task, examples, head.targets[places], opinions)
