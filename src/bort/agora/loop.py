"""The Agora loop: training data that grow near the model's own mistakes (arXiv 2010.07990).

The loop is independent of texts and networks. A `Learner` fits and scores models; a `Source` makes points near mistakes
and labels them. Without a source, the loop is plain fine-tuning: it fits each hyper-parameter set once, and keeps the
best model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple

from bort.agora.pruning import Pruning, Theta, pruned
from bort.agora.rounds import AgoraResult, DivergedError, Growth, M, Made, Point, Round, Slot, Trial, error_text
from bort.workers import InProcess, TrialError, Workers


def _equal(answers: Sequence[Any], truth: Sequence[Any]) -> list[bool]:
    return [bool(answer == true) for answer, true in zip(answers, truth, strict=True)]


def _itself(x: Any) -> Hashable:
    named: Hashable = x
    return named


@dataclass(frozen=True)
class Learner(Generic[M]):
    """Functions that fit and score models. They are sent to wherever trials run.

    Attributes:
        fit: Fits a model, given a hyper-parameter set, the training data, and the slot of the trial.
        predict: Returns a model's answers, one per point.
        right: Returns whether each answer is right, given all answers and the truth.
        score: Returns the score of all answers, given the truth; higher is better. None: the share of right answers.
        loss: Returns the loss of all answers, given the truth; lower is better. If given, it breaks ties.
    """

    fit: Callable[[Theta, Sequence[Point], Slot], M]
    predict: Callable[[M, Sequence[Any]], Sequence[Any]]
    right: Callable[[Sequence[Any], Sequence[Any]], Sequence[bool]] = _equal
    score: Callable[[Sequence[Any], Sequence[Any]], float] | None = None
    loss: Callable[[Sequence[Any], Sequence[Any]], float] | None = None


@dataclass(frozen=True)
class Source(Generic[M]):
    """The source of new training points.

    Attributes:
        near: Makes points near mistakes, given the mistakes, a random generator, and the identities of all known
            points.
        label: The teacher: returns labels, or None where it does not know, given points and all rounds so far, the last
            of which has just ended.
        identity: Returns a key that is equal for points that count as the same.
        forbidden: Identities that no new point may have, in addition to those of the training and development data,
            such as those of the test data.
        worth_learning: Called once, after the first round, which is plain training: whether the labels are worth
            learning. If not, the first round is the last.
        missed: Places of training data that are predicted wrongly out of fold. They are mistakes of each round, in
            addition to those on the development data.
    """

    near: Callable[[Sequence[Any], random.Random, AbstractSet[Hashable]], Made[Any]]
    label: Callable[[Sequence[Any], Sequence[Round[M]]], Sequence[Any]]
    identity: Callable[[Any], Hashable] = _itself
    forbidden: Iterable[Hashable] = ()
    worth_learning: Callable[[Round[M]], bool] = lambda first: True
    missed: Sequence[int] = ()


class AgoraJournal(Generic[M]):
    """Records finished work, so that a resumed run does not repeat it. This class records nothing."""

    def trial(self, slot: Slot) -> Trial[M] | None:
        """Return the trial of a slot, if it is finished."""
        return None

    def keep_trial(self, slot: Slot, trial: Trial[M]) -> Trial[M]:
        """Record a trial, and return it as stored: its model may now be a file."""
        return trial

    def failure(self, slot: Slot) -> Exception | None:
        """Return the error of a trial if it would fail again; None lets it be retried."""
        return None

    def keep_failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """Record the error of a trial."""

    def growth(self, number: int) -> Growth | None:
        """Return what a round added, if it is known."""
        return None

    def keep_growth(self, number: int, growth: Growth) -> None:
        """Record what a round added."""


class LoopDisplay(Generic[M]):
    """Shows the progress of a run. This class shows nothing."""

    def trainings(self, number: int, count: int) -> AbstractContextManager[None]:
        """Show the start of a round that fits `count` sets; the returned context is open while they are fitted."""
        return nullcontext()

    def trial(self, slot: Slot, trial: Trial[M]) -> None:
        """Show a finished trial."""

    def failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """Show the error of a trial."""

    def round(self, done: Round[M], best: Trial[M]) -> None:
        """Show a finished round; `best` is the best trial so far."""


def fit(
    thetas: Sequence[Theta],
    train: Sequence[Point],
    dev: Sequence[Point],
    learner: Learner[M],
    source: Source[M] | None = None,
    *,
    prune: Pruning = "lcs",
    rounds: int | None = None,
    replay: int = 0,
    ends_without_points: bool = False,
    seed: int = 0,
    workers: Workers | None = None,
    journal: AgoraJournal[M] | None = None,
    display: LoopDisplay[M] | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> AgoraResult[M]:
    """Fit models repeatedly on data that grow where the best model is wrong.

    While hyper-parameter sets are left: (1) fit one model per set on the training data, and score it on the development
    data; (2, 3) take all mistakes of the round's best model there, and make new points near them; (4) have a teacher
    label the points, and add them to the training data; (5, 6) rank the sets and drop some, the worst first
    (`pruning.pruned`). (7) The best model of all rounds is the result.

    The development data influence what is trained on, so the score on them is optimistic: evaluate the result on other
    data. A round drops at least one set, so there are at most as many rounds as sets, plus `replay`. With `rounds`, the
    best set stays until the last of these rounds instead, and the loop ends early if a round adds no points.

    Args:
        thetas: Hyper-parameter sets, all different.
        train: Training data.
        dev: Development data, a representative sample of the task.
        learner: Fits and scores models.
        source: Provides new points; without one, there is only one round.
        prune: Rule that drops sets after a round.
        rounds: Maximum number of rounds, whatever the number of sets; None: until no set is left, as published.
        replay: Number of last rounds to repeat at the end, each on the data as they have grown by then; none if they
            have not.
        ends_without_points: Whether the loop ends early if a round adds no points, also without `rounds`.
        seed: Random seed.
        workers: Where the trials of a round run; by default sequentially in this process.
        journal: Records finished work.
        display: Shows progress.
        out_of_time: Called before each trial but the very first; if true, no further trial starts, and the best model
            so far is the result.

    Raises:
        ValueError: There are no sets, rounds, training data or development data, a set occurs twice, or a function
            returns fewer or more items than it was given.
        Exception: What the first set of a round raised, if all sets failed. But if all sets of a later round diverge,
            the best model of the earlier rounds is the result.
    """
    sets = list(thetas)
    if not sets or any(theta in sets[:place] for place, theta in enumerate(sets)):
        raise ValueError("needs hyper-parameter sets, each different from the others")
    if rounds is not None and rounds < 1:
        raise ValueError("needs a round")
    if not train or not dev:
        raise ValueError("needs training and development data")
    run = _Run(
        learner,
        source,
        [Point(*point) for point in train],
        [Point(*point) for point in dev],
        seed,
        workers or InProcess(),
        journal or AgoraJournal(),
        display or LoopDisplay(),
        out_of_time,
        rounds_at_most=rounds,
        ends_without_points=ends_without_points or rounds is not None,
    )
    past = run.grow_and_prune(sets, prune, grows_after_the_last=replay > 0)
    if len(run.train) > run.given:
        run.replay(past[max(0, len(past) - replay) :] if replay else [])
    return AgoraResult(run.best, run.rounds, run.train, run.stopped, run.taught)


@dataclass
class _Run(Generic[M]):
    """The state of a run."""

    learner: Learner[M]
    source: Source[M] | None
    train: list[Point]
    dev: list[Point]
    seed: int
    workers: Workers
    journal: AgoraJournal[M]
    display: LoopDisplay[M]
    out_of_time: Callable[[], bool]
    rounds_at_most: int | None = None
    ends_without_points: bool = False
    rounds: list[Round[M]] = field(default_factory=list)
    best: Trial[M] = field(init=False)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.taught, self.known = self.source is not None, set[Hashable]()
        self.given = len(self.train)
        if self.source is not None:
            self.known = {self.source.identity(point.x) for point in (*self.train, *self.dev)} | {
                *self.source.forbidden
            }

    def grow_and_prune(
        self, sets: Sequence[Theta], prune: Pruning, *, grows_after_the_last: bool
    ) -> list[Sequence[Theta]]:
        """Run rounds until no set is left, and return the sets of each."""
        past: list[Sequence[Theta]] = []
        while sets and not self.stopped:
            past.append(sets)
            done = self.round(sets)
            if done is None:
                break
            if done.number == self.rounds_at_most:
                done.pruned = [*range(len(done.trials))]
            elif self.source is not None and len(done.trials) + len(done.failed) == len(sets):
                # Otherwise time ran out, and the ranking is incomplete.
                gone = pruned([t.theta for t in done.trials], _ranks(done.trials), prune)
                done.pruned = sorted(gone if self.rounds_at_most is None else gone - {done.best})
            sets = [trial.theta for place, trial in enumerate(done.trials) if place not in done.pruned]
            if done.number == 1 and not self.stopped and self.source is not None:
                self.taught = self.source.worth_learning(done)
            if (sets or grows_after_the_last) and self.taught and not self.stopped:
                self.grow(done)
            self.display.round(done, self.best)
            if not self.taught or (self.ends_without_points and not done.growth.points):
                break
        return past

    def replay(self, rounds: Sequence[Sequence[Theta]]) -> None:
        """Repeat some rounds with their sets."""
        for place, sets in enumerate(rounds):
            if self.stopped or (done := self.round(sets)) is None:
                return
            done.replayed = True
            if place + 1 < len(rounds) and not self.stopped:
                self.grow(done)
            self.display.round(done, self.best)

    def round(self, sets: Sequence[Theta]) -> Round[M] | None:
        """Fit and score each set; None if there was no time for any, or if all diverged after an earlier round."""
        number = len(self.rounds) + 1
        done, failures = self._journalled(number, sets)
        begun: list[_Item] = []

        def items() -> Iterator[_Item]:
            """Yield the remaining sets until time is up."""
            for place, theta in enumerate(sets):
                if place not in done and place not in failures:
                    if (number, place) != (1, 0) and self.out_of_time():
                        return
                    begun.append(_Item(Slot(number, place), theta))
                    yield begun[-1]

        left = len(sets) - len(done) - len(failures)
        with self.display.trainings(number, left):
            for result in self.workers.map(_Work(self.learner, self.train, self.dev), items()):
                slot, theta = begun[result.place]
                if result.error is not None:
                    failures[slot.place] = result.error
                    self.journal.keep_failure(slot, theta, result.error)
                    self.display.failure(slot, theta, result.error)
                else:
                    done[slot.place] = self.journal.keep_trial(slot, result.value)
                    self.display.trial(slot, done[slot.place])
        self.stopped = len(begun) < left
        if not done:
            if failures and not (self.rounds and all(isinstance(e, DivergedError) for e in failures.values())):
                raise failures[min(failures)]
            return None
        trials = [done[place] for place in sorted(done)]
        best = max(range(len(trials)), key=lambda place: (trials[place].rank, place))
        if not self.rounds or trials[best].rank >= self.best.rank:
            self.best = trials[best]
        right = _as_many(self.learner.right(trials[best].answers, [point.y for point in self.dev]), self.dev, "right")
        mistakes = [place for place, fine in enumerate(right) if not fine]
        failed = {str(sets[place]): error_text(error) for place, error in sorted(failures.items())}
        self.rounds.append(Round(number, trials, best, len(self.train), mistakes, failed=failed))
        return self.rounds[-1]

    def _journalled(self, number: int, sets: Sequence[Theta]) -> tuple[dict[int, Trial[M]], dict[int, Exception]]:
        """Return the finished trials of a round and the failures that are not retried, by place."""
        done: dict[int, Trial[M]] = {}
        failures: dict[int, Exception] = {}
        grown = self.journal.growth(number) is not None  # from the finished trials; no other may join them
        for place in range(len(sets)):
            slot = Slot(number, place)
            if (trial := self.journal.trial(slot)) is not None:
                done[place] = trial
            elif (failure := self.journal.failure(slot)) is not None:
                failures[place] = failure
            elif grown:
                failures[place] = TrialError("failed before the run was interrupted")
        return done, failures

    def grow(self, done: Round[M]) -> None:
        """Make points near the mistakes of a round, have them labelled, and add them to the training data."""
        assert self.source is not None
        growth = self.journal.growth(done.number)
        if growth is None:
            wrong = done.mistakes or self.source.missed
            growth = self._new_points(self.source, done) if wrong else Growth()
            self.journal.keep_growth(done.number, growth)
        done.growth = growth
        self.train.extend(growth.points)
        self.known.update(self.source.identity(point.x) for point in growth.points)

    def _new_points(self, source: Source[M], done: Round[M]) -> Growth:
        parents = [*done.mistakes, *(len(self.dev) + place for place in source.missed)]
        mistakes = [(*self.dev, *self.train[: self.given])[place].x for place in parents]
        made = source.near(mistakes, random.Random(f"{self.seed} {done.number}"), self.known)
        new: dict[Hashable, tuple[int, Any]] = {}
        dropped = Counter(made.dropped)
        for parent, near in zip(parents, _as_many(made.near, mistakes, "near"), strict=True):
            for x in near:
                name = source.identity(x)
                if name in self.known:
                    dropped["equals a known point"] += 1
                elif name in new:
                    dropped["made twice"] += 1
                else:
                    new[name] = parent, x
        points = [x for _, x in new.values()]
        labels = _as_many(source.label(points, self.rounds), points, "label") if points else []
        answered = [n for n, y in enumerate(labels) if y is not None]
        dropped["not labelled"] += len(points) - len(answered)
        origins = [parent for parent, _ in new.values()]
        return Growth(
            points=[Point(points[n], labels[n]) for n in answered],
            parents=[origins[n] for n in answered],
            made=sum(map(len, made.near)) + sum(made.dropped.values()),
            dropped={reason: count for reason, count in dropped.items() if count},
        )


class _Item(NamedTuple):
    slot: Slot
    theta: Theta


@dataclass(frozen=True)
class _Work(Generic[M]):
    """A trial with all its inputs, which is sent to other processes."""

    learner: Learner[M]
    train: Sequence[Point]
    dev: Sequence[Point]

    def __call__(self, item: _Item) -> Trial[M]:
        """Fit a model with one set, and score it."""
        learner = self.learner
        model = learner.fit(item.theta, self.train, item.slot)
        answers = _as_many(learner.predict(model, [point.x for point in self.dev]), self.dev, "predict")
        truth = [point.y for point in self.dev]
        score, loss = sum(learner.right(answers, truth)) / len(truth), 0.0
        if learner.score is not None:
            score = learner.score(answers, truth)
        if learner.loss is not None:
            loss = learner.loss(answers, truth)
        return Trial(item.theta, score, answers, model, loss)


def _ranks(trials: Sequence[Trial[Any]]) -> list[int]:
    """Return the dense rank of each trial, from the worst; ties share one."""
    ranks = sorted({trial.rank for trial in trials})
    return [ranks.index(trial.rank) for trial in trials]


def _as_many(answers: Sequence[Any], asked: Sequence[Any], what: str) -> Sequence[Any]:
    if len(answers) != len(asked):
        raise ValueError(f"{what} answered with {len(answers)} items where it was given {len(asked)}")
    return answers
