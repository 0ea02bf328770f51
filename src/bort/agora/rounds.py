"""What the loop of Agora is about: points, trials, rounds, and the result."""

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

    `Learner.fit` and `Learner.predict` raise it. The set of hyper-parameters goes, and is not tried again.
    """


class Point(NamedTuple):
    """An example: what is seen, and what it is."""

    x: Any
    y: Any


class Slot(NamedTuple):
    """Where a trial stands: its round, from 1, and the place of its set among those of the round, from 0."""

    round: int
    place: int


@dataclass(frozen=True)
class Made(Generic[X]):
    """Points made near each mistake, and how many were given up, by reason."""

    near: Sequence[Sequence[X]]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Growth:
    """What a round added to the training data.

    Attributes:
        points: The labelled points.
        parents: For each the place of the mistake that it was made from, in `dev` and behind it the training data that
            were given.
        made: How many points were made, before any was dropped.
        dropped: How many were dropped, by reason.
    """

    points: list[Point] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    made: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial(Generic[M]):
    """One training of one set of hyper-parameters: its score, its answers and their loss on the development data, and
    the model."""

    theta: Theta
    score: float
    answers: Sequence[Any]
    model: M
    loss: float = 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better: the score, and among equal ones the loss."""
        return self.score, -self.loss


@dataclass
class Round(Generic[M]):
    """What happened in a round.

    Attributes:
        number: Counted from 1.
        trials: In the order of the sets; fewer than sets where some failed or time ran out.
        best: Place of the best in `trials`.
        train_size: Points that were trained on.
        mistakes: Places in `dev` that the best got wrong.
        growth: What joined the training data after the round; nothing after the last.
        pruned: Places in `trials` of the sets that went.
        replayed: Whether the round fitted earlier sets once more.
        failed: Class and message of what the sets without a trial raised, by the sets' text.
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
        """The trial with the highest development score; of equals the one of least loss, then the last."""
        return self.trials[self.best]


@dataclass
class AgoraResult(Generic[M]):
    """The best model seen, what led to it, and the training data as they have grown.

    Attributes:
        best: The trial with the highest development score; of equals the latest, which had the most data.
        rounds: All of them.
        train: The data given, then each round's points.
        stopped: Whether time ran out.
        taught: Whether the source was worth learning from; False where there was none.
    """

    best: Trial[M]
    rounds: list[Round[M]]
    train: list[Point]
    stopped: bool
    taught: bool

    @property
    def best_round(self) -> int:
        """Number of the round of the best trial."""
        return next(done.number for done in self.rounds if self.best in done.trials)


def error_text(error: Exception) -> str:
    """Class and message of what a trial raised; a `TrialError` names the class of what was raised elsewhere itself."""
    if isinstance(error, TrialError):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")
