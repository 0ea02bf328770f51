"""Agora: training data that grow from the model's own mistakes (arXiv 2010.07990).

Nothing here knows of texts or networks: what is fitted, how it predicts, how points are transformed and who labels
them are functions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bort.agora.pruning import Pruning, Theta, pruned
from bort.workers import InProcess, Workers

_EARLIER = "failed before the run was interrupted"

X = TypeVar("X")
M = TypeVar("M")


class Point(NamedTuple):
    """An example: what is seen, and what it is."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Made(Generic[X]):
    """Points that a transformation made near each mistake, and those that it gave up, by reason."""

    near: Sequence[Sequence[X]]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Growth:
    """What a round added to the training data.

    Args:
        points: The labelled points.
        parents: For each the place in `dev` of the mistake that it was made from.
        made: How many points were made, before any was dropped.
        dropped: How many were dropped, by reason.
    """

    points: list[Point] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    made: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial(Generic[M]):
    """One set fitted in one round: its development score, what it answers there, the model, what else `fit` told."""

    theta: Theta
    score: float
    answers: Sequence[Any]
    model: M
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted(Generic[M]):
    """A model, and whatever else its fitting has to tell, in JSON values."""

    model: M
    about: dict[str, Any]


@dataclass
class Round(Generic[M]):
    """What happened in a round.

    Args:
        number: Counted from 1.
        trials: In the order of the sets; fewer than sets where some failed or time ran out.
        best: Place of the best in `trials`.
        train_size: Points that were trained on.
        mistakes: Places in `dev` that the best got wrong.
        growth: What joined the training data after the round; nothing after the last.
        pruned: Places in `trials` of the sets that went.
        replayed: Whether the round fitted earlier sets once more.
        failed: What the sets without a trial raised, by their text.
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


@dataclass
class AgoraResult(Generic[M]):
    """The best model seen, what led to it, and the training data as they have grown.

    Args:
        best: The trial with the highest development score; of equals the latest, which had the most data.
        rounds: All of them.
        train: The data given, then each round's points.
        stopped: Whether time ran out.
        taught: Whether the teacher's labels were worth learning from.
    """

    best: Trial[M]
    rounds: list[Round[M]]
    train: list[Point]
    stopped: bool = False
    taught: bool = True


class AgoraJournal(Protocol[M]):
    """Where what is done is noted, so that an interrupted run does not do it again."""

    def trial(self, number: int, place: int) -> Trial[M] | None:
        """The trial of a round at a place, if it is done."""

    def keep_trial(self, number: int, place: int, trial: Trial[M]) -> None:
        """Note a trial."""

    def keep_failure(self, number: int, place: int, error: Exception) -> None:
        """Note what a trial raised; a resumed run tries again, if the data have not grown since."""

    def growth(self, number: int) -> Growth | None:
        """What a round added, if that is known."""

    def keep_growth(self, number: int, growth: Growth) -> None:
        """Note what a round added."""


def fit(
    thetas: Sequence[Theta],
    train: Sequence[Point],
    dev: Sequence[Point],
    *,
    fit: Callable[[Theta, Sequence[Point]], M | Fitted[M]],
    predict: Callable[[M, Sequence[Any]], Sequence[Any]],
    transform: Callable[[Sequence[Any], random.Random], Made[Any] | Sequence[Sequence[Any]]],
    label: Callable[[Sequence[Any]], Sequence[Any]],
    right: Callable[[Any, Any], bool] = lambda answer, truth: bool(answer == truth),
    score: Callable[[Sequence[Any], Sequence[Any]], float] | None = None,
    identity: Callable[[Any], Hashable] = lambda x: x,
    forbidden: Iterable[Hashable] = (),
    prune: Pruning = "lcs",
    replay: int = 0,
    worth_learning: Callable[[Trial[M]], bool] = lambda plain: True,
    seed: int = 0,
    workers: Workers | None = None,
    journal: AgoraJournal[M] | None = None,
    on_round: Callable[[Round[M], Trial[M]], None] = lambda done, best: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> AgoraResult[M]:
    """Fit models again and again on data that grow where the best of them is wrong.

    While there are hyper-parameter sets: (1) fit one model for each on the training data, and score it on the
    development data; (2, 3) take all that the round's best gets wrong there, and make new points near; (4) a teacher
    labels them, and they join the training data; (5, 6) rank the sets and drop some, the worst first (`theta.pruned`).
    (7) The best model of all rounds is the result.

    The development data steer what is trained on, so a score on them is optimistic: judge the result on other data. As
    a round drops at least one set, there are at most as many rounds as sets, and `replay` more.

    Args:
        thetas: Hyper-parameter sets, each different from the others.
        train: What is known.
        dev: A representative sample of the task.
        fit: Makes a model from a set and the training data.
        predict: What a model answers.
        transform: Makes points near each of some mistakes, given a source of chance: a list for each, perhaps with
            what it dropped itself.
        label: The teacher: what points are, or None for those that it does not know.
        right: Whether an answer is no mistake.
        score: How good answers are, from them and the truth; by default the share that is right.
        identity: Points of one identity are the same point.
        forbidden: Identities that no new point may have, besides those of the training and development data: a test's.
        prune: Which sets go after a round.
        replay: So many of the last rounds are fitted once more at the end, each on the data as they have grown by then.
        worth_learning: Asked of the first round's best, which no teacher has taught: whether the teacher's labels are
            worth learning from. If not, the first round is the last.
        seed: Source of chance.
        workers: Where the sets of a round are fitted and predict; by default here, one after another.
        journal: Knows what is done.
        on_round: Told of each round and of the best trial so far.
        out_of_time: Asked before each trial but the very first; what is there by then is the result.

    Raises:
        ValueError: No set, a set that is there twice, no training or no development data, or a function that answers
            with fewer or more items than it was given.
        Exception: What the first set of a round raised, if all of them did.
    """
    sets = list(thetas)
    if not sets or any(theta in sets[:place] for place, theta in enumerate(sets)):
        raise ValueError("needs hyper-parameter sets, each different from the others")
    if not train or not dev:
        raise ValueError("needs training and development data")
    run: _Run[M] = _Run(
        fit, predict, transform, label, right, score, identity, workers or InProcess(), journal, out_of_time, seed
    )
    run.train, run.dev = [Point(*point) for point in train], [Point(*point) for point in dev]
    run.known = {identity(point.x) for point in (*run.train, *run.dev)} | {*forbidden}
    left, past, taught = sets, [], True
    while left and taught and not run.stopped:
        past.append(left)
        done = run.round(left)
        if done is None:
            break
        done.pruned = sorted(pruned([t.theta for t in done.trials], [t.score for t in done.trials], prune))
        if len(done.trials) + len(done.failed) < len(left):
            done.pruned = []  # time ran out: the ranking is not known
        left = [trial.theta for place, trial in enumerate(done.trials) if place not in done.pruned]
        if done.number == 1 and not run.stopped:
            taught = worth_learning(done.trials[done.best])
        if (left or replay) and taught and not run.stopped:
            run.grow(done)
        on_round(done, run.best)
    again = past[max(0, len(past) - replay) :] if replay and taught else []
    for place, sets in enumerate(again):
        if run.stopped or (done := run.round(sets)) is None:
            break
        done.replayed = True
        if place + 1 < len(again) and not run.stopped:
            run.grow(done)
        on_round(done, run.best)
    return AgoraResult(run.best, run.rounds, run.train, run.stopped, taught)


class _Run(Generic[M]):
    """The state of a run."""

    train: list[Point]
    dev: list[Point]
    known: set[Hashable]

    def __init__(
        self,
        fit: Callable[[Theta, Sequence[Point]], M | Fitted[M]],
        predict: Callable[[M, Sequence[Any]], Sequence[Any]],
        transform: Callable[[Sequence[Any], random.Random], Made[Any] | Sequence[Sequence[Any]]],
        label: Callable[[Sequence[Any]], Sequence[Any]],
        right: Callable[[Any, Any], bool],
        score: Callable[[Sequence[Any], Sequence[Any]], float] | None,
        identity: Callable[[Any], Hashable],
        workers: Workers,
        journal: AgoraJournal[M] | None,
        out_of_time: Callable[[], bool],
        seed: int,
    ) -> None:
        self.fit, self.predict, self.transform, self.label = fit, predict, transform, label
        self.right, self.score, self.identity = right, score, identity
        self.workers, self.journal, self.out_of_time, self.seed = workers, journal, out_of_time, seed
        self.rounds: list[Round[M]] = []
        self.best: Any = None
        self.stopped = False

    def round(self, sets: Sequence[Theta]) -> Round[M] | None:
        """Fit and score each set; None if there was no time for any."""
        number = len(self.rounds) + 1
        work = _Work(self.fit, self.predict, self.right, self.score, self.train, self.dev)
        done: dict[int, Trial[M]] = {}
        failures: dict[int, Exception] = {}
        if self.journal is not None:
            known = {place: self.journal.trial(number, place) for place in range(len(sets))}
            done = {place: trial for place, trial in known.items() if trial is not None}
            if self.journal.growth(number) is not None:  # built on the trials that there were
                failures = {place: RuntimeError(_EARLIER) for place in range(len(sets)) if place not in done}
        begun: list[int] = []

        def items() -> Iterator[Theta]:
            """Those that are left, as long as there is time when one can begin."""
            for place, theta in enumerate(sets):
                if place not in done and place not in failures:
                    if (number, place) != (1, 0) and self.out_of_time():
                        return
                    begun.append(place)
                    yield theta

        left = len(sets) - len(done) - len(failures)
        for result in self.workers.map(work, items()):
            place = begun[result.place]
            if result.error is not None:
                failures[place] = result.error
                if self.journal is not None:
                    self.journal.keep_failure(number, place, result.error)
                continue
            done[place] = result.value
            if self.journal is not None:
                self.journal.keep_trial(number, place, result.value)
        self.stopped = len(begun) < left
        if failures and not done:
            raise failures[min(failures)]
        trials = [done[place] for place in sorted(done)]
        if not trials:
            return None
        best = max(range(len(trials)), key=lambda place: (trials[place].score, place))
        if self.best is None or trials[best].score >= self.best.score:
            self.best = trials[best]
        mistakes = [
            place
            for place, (answer, point) in enumerate(zip(trials[best].answers, self.dev, strict=True))
            if not self.right(answer, point.y)
        ]
        failed = {str(sets[place]): str(error) for place, error in sorted(failures.items())}
        found = Round(number, trials, best, len(self.train), mistakes, failed=failed)
        self.rounds.append(found)
        return found

    def grow(self, done: Round[M]) -> None:
        """Make points near the mistakes of a round, have them labelled, and add them to the training data."""
        growth = None if self.journal is None else self.journal.growth(done.number)
        if growth is None:
            growth = self._made_near(done)
            if self.journal is not None:
                self.journal.keep_growth(done.number, growth)
        done.growth = growth
        self.train.extend(growth.points)
        self.known.update(self.identity(point.x) for point in growth.points)

    def _made_near(self, done: Round[M]) -> Growth:
        if not done.mistakes:
            return Growth()
        mistakes = [self.dev[place].x for place in done.mistakes]
        made = self.transform(mistakes, random.Random(f"{self.seed} {done.number}"))
        made = made if isinstance(made, Made) else Made(made)
        new: dict[Hashable, tuple[int, Any]] = {}
        dropped = Counter(made.dropped)
        for parent, near in zip(done.mistakes, _as_many(made.near, mistakes, "transform"), strict=True):
            for x in near:
                name = self.identity(x)
                if name in self.known:
                    dropped["equals a known point"] += 1
                elif name in new:
                    dropped["made twice"] += 1
                else:
                    new[name] = parent, x
        points = [x for _, x in new.values()]
        labels = _as_many(self.label(points), points, "label") if points else []
        answered = [n for n, y in enumerate(labels) if y is not None]
        dropped["not labelled"] += len(points) - len(answered)
        parents = [parent for parent, _ in new.values()]
        return Growth(
            points=[Point(points[n], labels[n]) for n in answered],
            parents=[parents[n] for n in answered],
            made=sum(map(len, made.near)) + sum(made.dropped.values()),
            dropped={reason: count for reason, count in dropped.items() if count},
        )


@dataclass(frozen=True)
class _Work(Generic[M]):
    """A trial, and all that it needs: this is what goes to other processes."""

    fit: Callable[[Theta, Sequence[Point]], M | Fitted[M]]
    predict: Callable[[M, Sequence[Any]], Sequence[Any]]
    right: Callable[[Any, Any], bool]
    score: Callable[[Sequence[Any], Sequence[Any]], float] | None
    train: Sequence[Point]
    dev: Sequence[Point]

    def __call__(self, theta: Theta) -> Trial[M]:
        """Fit a set and judge it."""
        fitted = self.fit(theta, self.train)
        model, about = (fitted.model, fitted.about) if isinstance(fitted, Fitted) else (fitted, {})
        answers = _as_many(self.predict(model, [point.x for point in self.dev]), self.dev, "predict")
        truth = [point.y for point in self.dev]
        score = sum(map(self.right, answers, truth)) / len(truth) if self.score is None else self.score(answers, truth)
        return Trial(theta, score, answers, model, about)


def _as_many(answers: Sequence[Any], asked: Sequence[Any], what: str) -> Sequence[Any]:
    if len(answers) != len(asked):
        raise ValueError(f"{what} answered with {len(answers)} items where it was given {len(asked)}")
    return answers
