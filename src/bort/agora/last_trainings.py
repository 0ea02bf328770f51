"""The trainings that follow the trials: of fixed length, on all labels, in different orders of the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from bort.agora.pruning import Theta
from bort.agora.rounds import (
    AgoraResult,
    DivergedError,
    NoModelError,
    OutOfTimeError,
    Point,
    Slot,
    Trial,
    error_text,
)
from bort.agora.session import Session
from bort.agora.softened_labels import softened
from bort.agora.trial import TextLearner, TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.splits import drawn
from bort.progress import say
from bort.tasks.task import Says

_FAR_BELOW = 0.1
"""A model whose score is further below another's has failed to learn."""
MOST_CHECKED = 1000
"""Most examples that a model is scored on: a random sample, because files may be sorted by class."""


@dataclass(frozen=True)
class LastTraining:
    """A training of fixed length with all its inputs, which is sent to other processes.

    Args:
        learner: Fits the model.
        theta: The combination.
        points: The training data.
        epochs: Number of epochs.
        with_vectors: Whether to learn a teacher's vectors too.
    """

    learner: TextLearner
    theta: Theta
    points: Sequence[Point]
    epochs: int
    with_vectors: bool = False

    def __call__(self, slot: Slot) -> TrainedWeights:
        """Train with the data order of a slot."""
        return self.learner.refit(self.theta, self.points, slot, epochs=self.epochs, with_vectors=self.with_vectors)

    def numbered(self, number: int) -> LastTraining:
        """See `Trainings.numbered`."""
        return self

    @cached_property
    def digest(self) -> str:
        """Hash of the data."""
        return self.learner.labelled(self.points, with_vectors=self.with_vectors).digest()


class Trainings(Protocol):
    """Numbered trainings, which are sent to other processes."""

    def __call__(self, slot: Slot) -> TrainedWeights:
        """Train the model of a slot, whose place is the number."""

    def numbered(self, number: int) -> LastTraining:
        """Return the training of a number."""


def plain_training(session: Session, best: Trial[TrainedWeights]) -> LastTraining:
    """Return a training of a plain trial's combination on all labels, with the number of epochs of its best step."""
    return LastTraining(session.learner, best.theta, softened(session, best), passes(session, best))


def passes(session: Session, best: Trial[TrainedWeights]) -> int:
    """Return the number of epochs that a plain trial took to reach its best step."""
    steps = math.ceil(len(session.data.train) / int(best.theta["batch_size"]))
    return max(1, round(int(best.model.about["best_step"]) / steps))


def plain_models(session: Session, best: Trial[TrainedWeights]) -> list[TrainedWeights]:
    """Train models of all labels in several data orders, with a plain trial's combination.

    Args:
        session: The run.
        best: The plain trial.

    Returns:
        The models that have learned; at least one.

    Raises:
        DivergedError: None has learned.
        NoModelError: All failed, or time was up before the first.
    """
    models = trained(session, plain_training(session, best), range(session.arguments.averaged))
    return _learned(session, best, models)


def grown_model(session: Session, training: LastTraining, best: Trial[TrainedWeights]) -> TrainedWeights:
    """Train a model of all labels and new texts; if it fails to learn, once more in another data order.

    Args:
        session: The run.
        training: The training.
        best: The trial of the same combination.

    Raises:
        DivergedError: It has not learned.
        NoModelError: It failed, or time was up before it began.
    """
    first = session.arguments.averaged
    try:
        [model] = _learned(session, best, trained(session, training, [first]))
    except DivergedError as error:
        if not has_time(session, first + 1):
            raise
        say(f"the last training is repeated in another order of the data: {error}")
        [model] = _learned(session, best, trained(session, training, [first + 1]))
    return model


def _learned(session: Session, best: Trial[TrainedWeights], models: Sequence[TrainedWeights]) -> list[TrainedWeights]:
    """Leave out models that failed to learn.

    At a high learning rate, one data order may end at a model that always predicts the most frequent label. On the
    development data, which it has learned, its score is far below that of the others, or of a trial that has not.
    """
    known, answers = drawn(session.points(session.data.dev), MOST_CHECKED), drawn(best.answers, MOST_CHECKED)
    scores = [known_score(session.learner, model, known) for model in models]
    least = _least([session.learner.score(answers, [point.y for point in known]), *scores], len(known))
    learned = [model for model, score in zip(models, scores, strict=True) if score >= least]
    if not learned:
        raise DivergedError("it failed to learn the labels, or its outputs are not finite")
    if failed := len(models) - len(learned):
        told = f"{failed} of {len(models)} models failed to learn the labels, and will not be used"
        say(told)
    return learned


def all_learned(
    session: Session, best: Trial[TrainedWeights], models: Sequence[TrainedWeights], known: Sequence[Sequence[Point]]
) -> bool:
    """Return whether each of several models has learned its own data: see `_learned`.

    Args:
        session: The run, which has few labels.
        best: The trial of the same combination.
        models: The models.
        known: Training data of each.
    """
    scores = [known_score(session.learner, model, points) for model, points in zip(models, known, strict=True)]
    fewest = min(map(len, known))
    least = max(_least(scores, fewest), _least([best.score], len(session.data.dev)))
    return all(score >= least for score in scores)


def _least(scores: Sequence[float], count: int) -> float:
    """Return the score on `count` examples below which a model has failed to learn, given scores of similar models."""
    # The score of a few texts depends on chance: of 25, by up to 0.2 (two standard errors).
    return max(scores) - _FAR_BELOW - 1 / math.sqrt(count)


def known_score(learner: TextLearner, model: TrainedWeights, known: Sequence[Point]) -> float:
    """Return a model's score on its training data; minus infinity if its outputs are not finite."""
    try:
        return learner.score(learner.predict(model, [point.x for point in known]), [point.y for point in known])
    except DivergedError:
        return -math.inf


def mean_prediction(session: Session, models: Sequence[TrainedWeights], texts: Sequence[Example]) -> Says:
    """Return the mean prediction of several models. *Shape:* (examples, outputs)."""
    return session.task.mean([session.learner.says(model, texts) for model in models])


def trained(session: Session, training: Trainings, numbers: Sequence[int]) -> list[TrainedWeights]:
    """Train once for each number, each with its own data order.

    Trainings that finished before an interruption, on the same data, are read from the journal. When time is up, only
    those continue that had begun. From now on the ranking of the trials is fixed.

    Args:
        session: The run.
        training: Sent to wherever trials run; the place of its slot is the number.
        numbers: Numbers of the trainings among all that follow the trials.

    Returns:
        The models in the order of the numbers, without those that failed or for which there was no time.

    Raises:
        NoModelError: All failed, or time was up before the first.
    """
    journal = session.journal
    journal.end_ranking()
    data = {number: training.numbered(number).digest for number in numbers}
    kept = {number: known for number in numbers if (known := journal.final(number, data[number])) is not None}
    left = [number for number in numbers if number not in kept]
    begun: list[int] = []

    def slots() -> Iterator[Slot]:
        for number in left:
            if has_time(session, number):
                journal.begin(number)
                begun.append(number)
                yield Slot(0, number)

    failed: list[Exception] = []
    with session.display.trainings(0, len(left)):
        for result in session.workers.map(training, slots()):
            session.display.ended()
            number = begun[result.place]
            if result.error is not None:
                failed.append(result.error)
                journal.keep_failure(Slot(0, number), training.numbered(number).theta, result.error)
            else:
                kept[number] = journal.keep_final(number, result.value, data[number])
    if not kept:
        if failed:
            raise NoModelError(error_text(failed[0])) from failed[0]
        raise OutOfTimeError
    if failed:
        told = f"{len(failed)} of the {len(numbers)} trainings that follow the trials failed (see journal.jsonl)"
        say(f"{told}: {error_text(failed[0])}")
    return [kept[number] for number in sorted(kept)]


def has_time(session: Session, number: int) -> bool:
    """Return whether one of the last trainings may begin or, after an interruption, continue."""
    return not session.clock.is_up() or session.journal.has_begun(number)


def without_last_training(
    ranked: AgoraResult[TrainedWeights], error: DivergedError | NoModelError
) -> AgoraResult[TrainedWeights]:
    """Say why there is no model of the last training, and return the result of the rounds, which replaces it.

    Args:
        ranked: Result of the rounds; stopped if time was up.
        error: Why.
    """
    told = "the last training on all labels gave no model, so the result is the best one before it"
    say(f"{told}: {error}")
    return replace(ranked, stopped=isinstance(error, OutOfTimeError))
