"""Out-of-fold predictions of fine-tuned models, for runs with few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.agora.last_trainings import LastTraining, all_learned, passes, trained
from bort.agora.rounds import DivergedError, NoModelError, Point, Slot, Trial
from bort.agora.session import Session
from bort.agora.softened_labels import opinions_help, with_opinions
from bort.agora.trial import TrainedWeights
from bort.data.tables.checks import identity
from bort.finetuning.linear_head import fit_linear_head
from bort.finetuning.student_head import StudentHead
from bort.progress import say
from bort.tasks.task import Says

_FIRST = 1000
"""Number of the first fold's training in the journal; the last trainings have smaller numbers."""
_MOST = 500
"""Maximum number of labels; with more, the development data (a fifth of them) are enough for a comparison."""


@dataclass(frozen=True)
class FoldTrainings:
    """The trainings of all folds, which are sent to other processes; a slot's place selects the fold.

    Args:
        of: One training per fold, on the data of the other folds.
    """

    of: Sequence[LastTraining]

    def __call__(self, slot: Slot) -> TrainedWeights:
        """Train the model of a slot's fold."""
        return self.numbered(slot.place)(slot)

    def numbered(self, number: int) -> LastTraining:
        """See `Trainings.numbered`."""
        return self.of[number - _FIRST]


def out_of_fold(session: Session, head: StudentHead, best: Trial[TrainedWeights]) -> Says | None:
    """Return out-of-fold predictions of one combination for training and development data.

    The folds are those of the linear head, so that the two can be compared on all labels, not only on the fifth that
    was split off. Each training takes as many epochs as the combination took to reach its best step.

    Args:
        session: A new or resumed run.
        head: Its linear head.
        best: The trial of the combination.

    Returns:
        *Shape:* (examples, outputs). None if development data were given, for a task of a suite, without `refit`, with
        more than 500 labels, if time is up, or if a training failed or did not learn its labels: the result is the
        average of trainings that did.
    """
    data, arguments = session.data, session.arguments
    examples = [*data.train, *data.dev]
    if arguments.dev or data.suite or not arguments.refit or len(examples) > _MOST:
        return None
    folds, soft = head.whole.folds, opinions_help(session, best)
    numbers = range(_FIRST, _FIRST + int(folds.max()) + 1)
    epochs = passes(session, best)
    each = [
        LastTraining(session.learner, best.theta, _without(session, head, folds == fold, soft=soft), epochs)
        for fold in range(len(numbers))
    ]
    try:
        models = trained(session, FoldTrainings(each), numbers)
        if len(models) < len(numbers):
            return None
        points = session.points(examples)
        learned = [[points[place] for place in np.flatnonzero(folds != fold)] for fold in range(len(numbers))]
        if not all_learned(session, best, models, learned):
            told = "a training failed to learn the labels, so nothing is compared in cross-validation"
            say(told)
            return None
        says = np.zeros((len(examples), session.task.outputs))
        for number, model in zip(numbers, models, strict=True):
            own = np.flatnonzero(folds == number - _FIRST)
            says[own] = session.learner.says(model, [examples[place] for place in own])
    except (DivergedError, NoModelError):
        return None
    return says


def _without(session: Session, head: StudentHead, fold: NDArray[np.bool_], *, soft: bool) -> list[Point]:
    """Return the data of the last training without a fold."""
    places, task = np.flatnonzero(~fold), session.task
    everything = [*session.data.train, *session.data.dev]
    examples = [everything[place] for place in places]
    if not soft:
        return session.points(examples)
    features = {head.whole.pooling: head.features[head.whole.pooling][places]}
    groups = [identity(example) for example in examples]
    balance = session.fitter.balance
    opinions = fit_linear_head(features, head.targets[places], task, groups=groups, balance=balance).out_of_fold
    return with_opinions(task, examples, head.targets[places], opinions)
