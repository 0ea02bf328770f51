"""Agora: training data that grow from the model's own mistakes (arXiv 2010.07990).

Nothing here knows of texts or networks. A `Learner` fits models and judges them; a `Source` makes points near mistakes
and labels them. Without a source the loop is plain fine-tuning: each set of hyper-parameters once, the best is kept.
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
    """How models are fitted and judged. It is sent to wherever trials run.

    Attributes:
        fit: Makes a model from a set of hyper-parameters, the training data, and the slot of the trial.
        predict: What a model answers, one answer for each point.
        right: Whether each answer is no mistake, from all answers and the truth.
        score: How good answers are, from them and the truth, higher is better; None: the share that is right.
        loss: How far answers are from the truth, lower is better; it decides between equal scores. None: nothing does.
    """

    fit: Callable[[Theta, Sequence[Point], Slot], M]
    predict: Callable[[M, Sequence[Any]], Sequence[Any]]
    right: Callable[[Sequence[Any], Sequence[Any]], Sequence[bool]] = _equal
    score: Callable[[Sequence[Any], Sequence[Any]], float] | None = None
    loss: Callable[[Sequence[Any], Sequence[Any]], float] | None = None


@dataclass(frozen=True)
class Source(Generic[M]):
    """Where new training points come from.

    Attributes:
        near: Makes points near each of some mistakes, from these, a source of chance, and the identities of all points
            that are known already.
        label: The teacher: what points are, or None for those that it does not know, from the points and all rounds so
            far, the last of which has just ended.
        identity: Points of one identity are the same point.
        forbidden: Identities that no new point may have, besides those of the training and development data: a test's.
        worth_learning: Asked once, of the first round, which no teacher has taught: whether the labels are worth
            learning from. If not, the first round is the last.
        missed: Training data that a model gets wrong which was fitted without them, by place. They are mistakes of each
            round, beside those on the development data.
    """

    near: Callable[[Sequence[Any], random.Random, AbstractSet[Hashable]], Made[Any]]
    label: Callable[[Sequence[Any], Sequence[Round[M]]], Sequence[Any]]
    identity: Callable[[Any], Hashable] = _itself
    forbidden: Iterable[Hashable] = ()
    worth_learning: Callable[[Round[M]], bool] = lambda first: True
    missed: Sequence[int] = ()


class AgoraJournal(Generic[M]):
    """Where what is done is noted, so that an interrupted run does not do it again. This one notes nothing."""

    def trial(self, slot: Slot) -> Trial[M] | None:
        """The trial of a slot, if it is done."""
        return None

    def keep_trial(self, slot: Slot, trial: Trial[M]) -> Trial[M]:
        """Note a trial, and give it back as it is kept: its model may have become a file."""
        return trial

    def failure(self, slot: Slot) -> Exception | None:
        """What a trial raised, where it would raise that again; None lets it be tried again."""
        return None

    def keep_failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """Note what a trial raised."""

    def growth(self, number: int) -> Growth | None:
        """What a round added, if that is known."""
        return None

    def keep_growth(self, number: int, growth: Growth) -> None:
        """Note what a round added."""


class LoopDisplay(Generic[M]):
    """Shows a run as it goes on. Nothing depends on it; this one shows nothing."""

    def trainings(self, number: int, count: int) -> AbstractContextManager[None]:
        """A round begins, and has so many sets to fit; what it gives is open while they are fitted."""
        return nullcontext()

    def trial(self, slot: Slot, trial: Trial[M]) -> None:
        """A trial has ended."""

    def failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """A trial has raised something."""

    def round(self, done: Round[M], best: Trial[M]) -> None:
        """A round is over; `best` is the best trial so far."""


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
    seed: int = 0,
    workers: Workers | None = None,
    journal: AgoraJournal[M] | None = None,
    display: LoopDisplay[M] | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> AgoraResult[M]:
    """Fit models again and again on data that grow where the best of them is wrong.

    While there are hyper-parameter sets: (1) fit one model for each on the training data, and score it on the
    development data; (2, 3) take all that the round's best gets wrong there, and make new points near; (4) a teacher
    labels them, and they join the training data; (5, 6) rank the sets and drop some, the worst first
    (`pruning.pruned`). (7) The best model of all rounds is the result.

    The development data steer what is trained on, so a score on them is optimistic: judge the result on other data. As
    a round drops at least one set, there are at most as many rounds as sets, and `replay` more. With `rounds`, the best
    set stays until the last of so many rounds instead, and a round that has nothing new to learn from is left out.

    Args:
        thetas: Hyper-parameter sets, each different from the others.
        train: What is known.
        dev: A representative sample of the task.
        learner: Fits and judges.
        source: Gives new points; without one, the first round is the only one.
        prune: Which sets go after a round.
        rounds: How many there are, whatever the number of sets; None: as many as it takes until no set is left, as
            published.
        replay: So many of the last rounds are fitted once more at the end, each on the data as they have grown by then.
        seed: Source of chance.
        workers: Where the trials of a round run; by default here, one after another.
        journal: Knows what is done.
        display: Is told what happens.
        out_of_time: Asked before each trial but the very first; what is there by then is the result.

    Raises:
        ValueError: No set, no round, a set that is there twice, no training or no development data, or a function that
            answers with fewer or more items than it was given.
        Exception: What the first set of a round raised, if all of them did; but where all of a later round diverge, the
            best of the rounds before is the result.
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
    )
    past = run.grow_and_prune(sets, prune, grows_after_the_last=replay > 0)
    if run.taught:
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
        """Go through rounds until no set is left, and give the sets of each."""
        past: list[Sequence[Theta]] = []
        while sets and not self.stopped:
            past.append(sets)
            done = self.round(sets)
            if done is None:
                break
            if done.number == self.rounds_at_most:
                done.pruned = [*range(len(done.trials))]
            elif self.source is not None and len(done.trials) + len(done.failed) == len(sets):
                # Otherwise time ran out, and the ranking is not known.
                gone = pruned([t.theta for t in done.trials], _ranks(done.trials), prune)
                done.pruned = sorted(gone if self.rounds_at_most is None else gone - {done.best})
            sets = [trial.theta for place, trial in enumerate(done.trials) if place not in done.pruned]
            if done.number == 1 and not self.stopped and self.source is not None:
                self.taught = self.source.worth_learning(done)
            if (sets or grows_after_the_last) and self.taught and not self.stopped:
                self.grow(done)
            self.display.round(done, self.best)
            if not self.taught or (self.rounds_at_most is not None and not done.growth.points):
                break
        return past

    def replay(self, rounds: Sequence[Sequence[Theta]]) -> None:
        """Fit the sets of some rounds once more."""
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
            """Those that are left, as long as there is time when one can begin."""
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
        """The trials of a round that are done, by place, and the failures that stay."""
        done: dict[int, Trial[M]] = {}
        failures: dict[int, Exception] = {}
        grown = self.journal.growth(number) is not None  # from the trials that there were: no other may join them
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
    """A trial, and all that it needs: this is what goes to other processes."""

    learner: Learner[M]
    train: Sequence[Point]
    dev: Sequence[Point]

    def __call__(self, item: _Item) -> Trial[M]:
        """Fit a set and judge it."""
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
    """Place of each among the different ranks, from the worst."""
    ranks = sorted({trial.rank for trial in trials})
    return [ranks.index(trial.rank) for trial in trials]


def _as_many(answers: Sequence[Any], asked: Sequence[Any], what: str) -> Sequence[Any]:
    if len(answers) != len(asked):
        raise ValueError(f"{what} answered with {len(answers)} items where it was given {len(asked)}")
    return answers
