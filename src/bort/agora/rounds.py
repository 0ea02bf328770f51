"""Data types of the Agora loop: points, trials, rounds, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from bort.agora.pruning import Theta
from bort.errors import BortError
from bort.workers import TrialError

X = TypeVar("X")
M = TypeVar("M")


class DivergedError(BortError):
    """The outputs of a model are not finite numbers.

    `Learner.fit` and `Learner.predict` raise it. The hyper-parameter set is dropped and not tried again.
    """


class NoModelError(BortError):
    """No training that follows the trials gave a model; the message says why."""


class OutOfTimeError(NoModelError):
    """Time was up before the first training that follows the trials."""

    def __init__(self, rule: str = "time was up before it began") -> None:
        super().__init__(rule)


class Point(NamedTuple):
    """An example: its input and its target."""

    x: Any
    y: Any


class Slot(NamedTuple):
    """The position of a trial: its round, from 1, and the place of its set in the round, from 0."""

    round: int
    place: int


@dataclass(frozen=True)
class Made(Generic[X]):
    """Points made near each mistake, and the number of dropped ones, by reason."""

    near: Sequence[Sequence[X]]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Growth:
    """What a round added to the training data.

    Attributes:
        points: The labelled points.
        parents: For each point the place of the mistake that it was made from, in `dev` followed by the given training
            data.
        made: Number of points made, before any was dropped.
        dropped: Number of dropped points, by reason.
    """

    points: list[Point] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    made: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial(Generic[M]):
    """One training with one hyper-parameter set: its score, answers and loss on the development data, and the model."""

    theta: Theta
    score: float
    answers: Sequence[Any]
    model: M
    loss: float = 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key, greater is better: by score, then by loss."""
        return self.score, -self.loss


@dataclass
class Round(Generic[M]):
    """The record of a round.

    Attributes:
        number: Number of the round, from 1.
        trials: Trials in the order of the sets; fewer than sets if some failed or time ran out.
        best: Place of the best in `trials`.
        train_size: Number of training points.
        mistakes: Places in `dev` that the best got wrong.
        growth: What was added to the training data after the round; nothing after the last.
        pruned: Places in `trials` of the dropped sets.
        replayed: Whether the round repeated an earlier one.
        failed: Error class and message of the sets without a trial, by the sets' text.
    """

    number: int
    trials: list[Trial[M]]
    best: int
    train_size: int
    mistakes: list[int]
    growth: Growth = field(default_factory=Growth)
    pruned: list[int] = field(default_factory=list)
    replayed: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def winner(self) -> Trial[M]:
        """The trial with the highest development score; on ties the one with the lowest loss, then the last."""
        return self.trials[self.best]


@dataclass
class AgoraResult(Generic[M]):
    """The best model, the rounds that led to it, and the grown training data.

    Attributes:
        best: The trial with the highest development score; on ties the one with the lowest loss, then the latest.
        rounds: All rounds.
        train: The given data, then each round's points.
        stopped: Whether time ran out.
        taught: Whether the source was worth learning from; False without a source.
    """

    best: Trial[M]
    rounds: list[Round[M]]
    train: list[Point]
    stopped: bool
    taught: bool

    @property
    def best_round(self) -> int:
        """Number of the best trial's round."""
        return next(done.number for done in self.rounds if self.best in done.trials)


def error_text(error: Exception) -> str:
    """Return class and message of a trial's error; the message of a `TrialError` already names the original class."""
    if isinstance(error, TrialError):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")
