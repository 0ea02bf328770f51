"""The loop of Agora with learners that take milliseconds."""

from __future__ import annotations

import dataclasses
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.svm import SVC

import bort.agora
from bort.agora.loop import Learner, LoopDisplay, Source
from bort.agora.rounds import DivergedError, Growth, Made, Point
from bort.workers import InProcess

THETAS = [{"gamma": gamma, "C": c} for gamma in (0.3, 1.0, 3.0) for c in (1.0, 10.0)]
LEARNER, SOURCE = ({field.name for field in dataclasses.fields(kind)} for kind in (Learner, Source))
SHAPES = {
    "moons": lambda n, seed: make_moons(n, noise=0.2, random_state=seed),
    "circles": lambda n, seed: make_circles(n, noise=0.1, factor=0.5, random_state=seed),
    "blobs": lambda n, seed: make_blobs(
        n, centers=[(-1, -1), (1, 1), (-1, 1), (1, -1)], cluster_std=0.5, random_state=seed
    ),
}


def points(shape, n, seed):
    x, y = SHAPES[shape](n, seed)
    # Two of the blobs' four centres make a class.
    return [
        Point(tuple(row), int(label) // 2 if shape == "blobs" else int(label)) for row, label in zip(x, y, strict=True)
    ]


def scarce(shape, n, seed):
    """Training points from one side of the plane only, of both classes: not representative."""
    pool = sorted(points(shape, 400, seed), key=lambda point: point.x[0])[:200]
    rng = random.Random(seed)
    chosen = rng.sample(pool, n)
    for label in {0, 1} - {point.y for point in chosen}:
        chosen.append(next(point for point in [*pool, *points(shape, 400, seed)] if point.y == label))
    return chosen


def fit_svm(theta, train, slot=None):
    return SVC(**theta).fit([point.x for point in train], [point.y for point in train])


def predict(model, xs):
    return model.predict(np.array(xs)).tolist() if len(xs) else []


def jitter(mistakes, rng, known):
    return Made([[tuple(value + rng.gauss(0, 0.15) for value in x) for _ in range(4)] for x in mistakes])


class Problem:
    """A task with few labels, a teacher that saw more, and data to judge by."""

    def __init__(self, shape, seed):
        self.train, self.dev = scarce(shape, 24, seed), points(shape, 60, seed + 1000)
        self.test = points(shape, 1000, seed + 2000)
        teacher = fit_svm({"gamma": 1.0, "C": 1.0}, points(shape, 300, seed + 3000))
        self.label = lambda xs, rounds: predict(teacher, xs)

    def run(self, thetas=THETAS, **settings):
        """Of the learner, of the source, and of the loop itself."""
        learner, source = {"fit": fit_svm, "predict": predict}, {"near": jitter, "label": self.label}
        for its, fields in ((learner, LEARNER), (source, SOURCE)):
            its |= {name: settings.pop(name) for name in fields & settings.keys()}
        return bort.agora.fit(thetas, self.train, self.dev, Learner(**learner), Source(**source), **settings)

    def accuracy(self, model):
        answers = predict(model, [point.x for point in self.test])
        return statistics.mean(answer == point.y for answer, point in zip(answers, self.test, strict=True))


def scores(outcome):
    return [[trial.score for trial in done.trials] for done in outcome.rounds]


@pytest.fixture(scope="module")
def problem():
    return Problem("moons", 0)


@pytest.mark.parametrize("prune", ["lcs", "halving"])
@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_it_ends_within_as_many_rounds_as_sets(prune, shape, seed):
    outcome = Problem(shape, seed).run(prune=prune, seed=seed)
    assert len(outcome.rounds) <= len(THETAS)
    for done, after in zip(outcome.rounds, [*outcome.rounds[1:], None], strict=True):
        assert done.pruned
        left = [trial.theta for place, trial in enumerate(done.trials) if place not in done.pruned]
        assert left == ([] if after is None else [trial.theta for trial in after.trials])
        assert after is None or done.best not in done.pruned


@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_no_new_point_equals_one_that_is_known(shape, seed):
    problem = Problem(shape, seed)

    def onto_others(mistakes, rng, known):  # makes points that must be dropped, besides good ones
        taken = [problem.train[0].x, problem.dev[0].x, problem.test[0].x]
        return Made([[*near, *taken, near[0]] for near in jitter(mistakes, rng, known).near])

    outcome = problem.run(near=onto_others, forbidden={point.x for point in problem.test})
    new = [point.x for point in outcome.train[len(problem.train) :]]
    assert len({*new}) == len(new)
    assert not {*new} & {point.x for part in (problem.train, problem.dev, problem.test) for point in part}
    for done in outcome.rounds:
        assert done.growth.made == len(done.growth.points) + sum(done.growth.dropped.values())
    dropped = [done.growth.dropped for done in outcome.rounds if done.growth.made]
    assert all(d["equals a known point"] >= 3 and d["made twice"] >= 1 for d in dropped)


def test_the_same_seed_gives_the_same_run(problem):
    one, two, other = (problem.run(seed=seed) for seed in (3, 3, 4))
    assert one.train == two.train
    assert scores(one) == scores(two)
    assert one.train != other.train


def test_forbidden_points_are_kept_out_and_would_come_in_otherwise(problem):
    strays = [point.x for point in problem.test[:3]]
    for forbidden, come_in in ((set(), {*strays}), ({*strays}, set())):
        outcome = problem.run(near=lambda mistakes, rng, known: Made([strays for _ in mistakes]), forbidden=forbidden)
        assert {point.x for point in outcome.train[len(problem.train) :]} == come_in


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_it_beats_the_best_plain_fit_on_data_that_it_has_not_seen(shape):
    first, last, rising = [], [], []
    for seed in range(20):
        problem = Problem(shape, seed)
        outcome = problem.run(seed=seed)
        by_round = [problem.accuracy(done.trials[done.best].model) for done in outcome.rounds]
        first.append(by_round[0])  # the best of the plain fits, by development accuracy
        last.append(problem.accuracy(outcome.best.model))
        rising.append(by_round[-1] - by_round[0])
    assert statistics.mean(rising) > 0
    assert 1 - statistics.mean(last) < 0.8 * (1 - statistics.mean(first)), "a fifth of the errors goes at least"


@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 50), rounds=st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_rounds_may_be_fewer_or_more_than_sets(shape, seed, rounds):
    outcome = Problem(shape, seed).run(THETAS[: 1 + seed % 3], seed=seed, rounds=rounds)
    assert len(outcome.rounds) <= rounds
    *before, last = outcome.rounds
    assert len(outcome.rounds) == rounds or not last.growth.points
    assert all(done.growth.points and done.best not in done.pruned for done in before)
    assert outcome.taught


def test_the_loss_decides_between_equal_scores(problem):
    losses = iter(range(10))
    outcome = problem.run(rounds=1, score=lambda answers, truth: 0.5, loss=lambda answers, truth: float(next(losses)))
    assert outcome.best is outcome.rounds[0].trials[0]
    assert outcome.rounds[0].best == 0


def test_training_data_that_were_missed_are_mistakes_too(problem):
    """Points are made near them as well, and they are told from development data by their place behind these."""
    asked = []

    def near(mistakes, rng, known):
        asked.append(list(mistakes))
        return jitter(mistakes, rng, known)

    outcome = problem.run(near=near, missed=[3, 5], rounds=2)
    first = outcome.rounds[0]
    wrong = [problem.dev[place].x for place in first.mistakes]
    assert asked[0] == [*wrong, problem.train[3].x, problem.train[5].x]
    assert {*first.growth.parents} == {*first.mistakes, len(problem.dev) + 3, len(problem.dev) + 5}
    perfect = problem.run(right=lambda answers, truth: [True] * len(truth), missed=[3], rounds=2)
    assert len(perfect.rounds[0].growth.points) == 4


def test_replay_fits_the_last_rounds_once_more_on_all_data(problem):
    plain, replayed = problem.run(seed=1), problem.run(seed=1, replay=2)
    count = len(plain.rounds)
    assert [done.replayed for done in replayed.rounds] == [False] * count + [True, True]
    for done, again in zip(replayed.rounds[count - 2 : count], replayed.rounds[count:], strict=True):
        assert [trial.theta for trial in again.trials] == [trial.theta for trial in done.trials]
        assert again.train_size > done.train_size or not done.mistakes
    assert replayed.best.score >= plain.best.score


@pytest.mark.parametrize("settings", [{"ends_without_points": True}, {"rounds": 3}])
def test_without_new_points_no_round_is_repeated(problem, settings):
    def none(mistakes, rng, known):
        return Made([[] for _ in mistakes])

    (done,) = problem.run(near=none, replay=2, **settings).rounds
    assert done.mistakes
    published = problem.run(near=none, replay=2)
    assert len(published.rounds) > 1, "until no set is left"
    assert not any(done.replayed for done in published.rounds)


@pytest.mark.parametrize("replay", [0, 2])
def test_a_teacher_not_worth_learning_from_ends_it_with_plain_fits(problem, replay):
    asked = []
    outcome = problem.run(worth_learning=lambda plain: bool(asked.append(plain)), replay=replay)
    (done,) = outcome.rounds
    assert asked == [done]
    assert outcome.best == done.winner
    assert not outcome.taught
    assert outcome.train == [*problem.train]
    assert not done.growth.points


def test_whether_a_teacher_is_worth_it_is_asked_once(problem):
    asked = []
    outcome = problem.run(worth_learning=lambda plain: asked.append(plain) or True)
    assert outcome.taught
    assert len(asked) == 1 < len(outcome.rounds)


def test_the_best_is_the_latest_of_equals(problem):
    outcome = problem.run(score=lambda answers, truth: 0.5)
    assert outcome.best is outcome.rounds[-1].trials[-1]


def test_a_regression_counts_what_is_far_off_as_a_mistake():
    class Mean:
        def __init__(self, train):
            self.value = statistics.mean(point.y for point in train)

    train, dev = [Point(0.0, 0.0), Point(1.0, 1.0)], [Point(0.4, 0.4), Point(5.0, 5.0), Point(5.5, 5.5)]
    outcome = bort.agora.fit(
        [{"a": 1}, {"a": 2}],
        train,
        dev,
        Learner(
            fit=lambda theta, train, slot: Mean(train),
            predict=lambda model, xs: [model.value] * len(xs),
            right=lambda answers, truth: [abs(a - b) < 1 for a, b in zip(answers, truth, strict=True)],
            score=lambda answers, truth: -statistics.mean(abs(a - t) for a, t in zip(answers, truth, strict=True)),
        ),
        Source(
            near=lambda mistakes, rng, known: Made([[x + 0.1] for x in mistakes]),
            label=lambda xs, rounds: list(xs),
        ),
    )
    assert outcome.rounds[0].mistakes == [1, 2]
    assert outcome.train[2:] == [Point(5.1, 5.1), Point(5.6, 5.6)]
    assert outcome.best.score > outcome.rounds[0].trials[0].score


def test_points_that_the_teacher_does_not_know_are_dropped(problem):
    outcome = problem.run(label=lambda xs, rounds: [None if n % 2 else 0 for n in range(len(xs))])
    growth = outcome.rounds[0].growth
    assert growth.dropped["not labelled"] == growth.made // 2
    assert {point.y for point in growth.points} == {0}


def test_what_a_transformation_drops_is_told_of(problem):
    outcome = problem.run(near=lambda mistakes, rng, known: Made([[] for _ in mistakes], {"too far off": 5}))
    assert outcome.rounds[0].growth == Growth(made=5, dropped={"too far off": 5})


class Noted:
    """A journal in memory, which may lose all that came after a number of entries."""

    def __init__(self, entries=(), dies_after=10**9):
        self.entries, self.left, self.failed = dict(entries), dies_after, []

    def trial(self, slot):
        return self.entries.get(slot)

    def failure(self, slot):
        return next((error for where, error in self.failed if where == slot and isinstance(error, DivergedError)), None)

    def growth(self, number):
        return self.entries.get(number)

    def keep_trial(self, slot, trial):
        self._keep(slot, trial)
        return trial

    def keep_failure(self, slot, theta, error):
        self.failed.append((slot, error))

    def keep_growth(self, number, growth):
        self._keep(number, growth)

    def _keep(self, key, value):
        if not self.left:
            raise InterruptedError
        self.left -= 1
        assert key not in self.entries, "done twice"
        self.entries[key] = value


@given(share=st.floats(0, 0.99))
@settings(max_examples=10, deadline=None)
def test_an_interrupted_run_goes_on_and_does_nothing_twice(problem, share):
    whole = Noted()
    expected = problem.run(journal=whole, replay=1)
    dies_after = int(share * len(whole.entries))
    journal = Noted(dies_after=dies_after)
    with pytest.raises(InterruptedError):
        problem.run(journal=journal, replay=1)
    assert len(journal.entries) == dies_after
    fitted = []

    def counted(theta, train, slot):
        fitted.append(slot)
        return fit_svm(theta, train)

    resumed = problem.run(journal=Noted(journal.entries), replay=1, fit=counted)
    assert resumed.train == expected.train
    assert [[t.score for t in r.trials] for r in resumed.rounds] == [
        [t.score for t in r.trials] for r in expected.rounds
    ]
    trials = sum(len(done.trials) for done in expected.rounds)
    assert len(fitted) == trials - sum(isinstance(key, tuple) for key in journal.entries)
    assert not {*fitted} & journal.entries.keys()


def test_the_time_that_is_left_bounds_it(problem):
    for allowed in range(12):
        asked = []

        def out_of_time(asked=asked, allowed=allowed):
            asked.append(True)
            return len(asked) > allowed

        outcome = problem.run(out_of_time=out_of_time)
        trials = [trial for done in outcome.rounds for trial in done.trials]
        assert len(trials) == min(allowed, len(trials)) + 1  # the very first is never refused
        assert outcome.stopped
        assert outcome.best.score == max(trial.score for trial in trials)


def test_sets_may_be_fitted_side_by_side(problem):
    class Backwards:
        def map(self, function, items):
            yield from reversed(list(InProcess().map(function, items)))

    beside, alone = problem.run(workers=Backwards()), problem.run()
    assert beside.train == alone.train
    assert [[trial.theta for trial in done.trials] for done in beside.rounds] == [
        [trial.theta for trial in done.trials] for done in alone.rounds
    ]


def fit_all_but_one(theta, train, slot):
    if theta == THETAS[1]:
        raise RuntimeError("it will not")
    return fit_svm(theta, train)


def test_a_set_that_raises_goes_and_the_others_stay(problem):
    journal = Noted()
    outcome = problem.run(fit=fit_all_but_one, journal=journal)
    assert not outcome.stopped
    assert [(slot, str(error)) for slot, error in journal.failed] == [((1, 1), "it will not")]
    assert outcome.rounds[0].failed == {str(THETAS[1]): "RuntimeError: it will not"}
    assert all(trial.theta != THETAS[1] for done in outcome.rounds for trial in done.trials)
    assert len(outcome.rounds[0].trials) == len(THETAS) - 1


def test_what_failed_is_tried_again_until_the_data_have_grown(problem):
    journal = Noted()
    expected = problem.run(fit=fit_all_but_one, journal=journal)
    resumed = problem.run(journal=Noted(journal.entries))  # now it would
    assert [[t.theta for t in r.trials] for r in resumed.rounds] == [
        [t.theta for t in r.trials] for r in expected.rounds
    ]
    assert resumed.train == expected.train
    assert not resumed.stopped
    early = {key: value for key, value in journal.entries.items() if isinstance(key, tuple) and key[0] == 1}
    whole = problem.run(journal=Noted(early))
    assert whole.rounds[0].failed == {}
    assert len(whole.rounds[0].trials) == len(THETAS)


def test_a_round_without_mistakes_adds_nothing(problem):
    outcome = problem.run(right=lambda answers, truth: [True] * len(truth))
    assert len(outcome.train) == len(problem.train)
    assert outcome.rounds[0].growth == Growth()


def test_rounds_are_told_of_as_they_end(problem):
    told, trials, trainings = [], [], []

    class Told(LoopDisplay):
        def trainings(self, number, count):
            trainings.append((number, count))
            return super().trainings(number, count)

        def trial(self, slot, trial):
            trials.append((slot, trial))

        def round(self, done, best):
            told.append((done.number, len(done.growth.points), best.score))

    outcome = problem.run(display=Told())
    assert trials == [((r.number, n), trial) for r in outcome.rounds for n, trial in enumerate(r.trials)]
    assert trainings == [(done.number, len(done.trials)) for done in outcome.rounds]
    assert [number for number, _, _ in told] == [done.number for done in outcome.rounds]
    assert [points for _, points, _ in told] == [len(done.growth.points) for done in outcome.rounds]
    assert [best for _, _, best in told] == sorted(best for _, _, best in told)


@pytest.mark.parametrize(
    ("thetas", "settings", "rule"),
    [
        ([], {}, "hyper-parameter sets"),
        ([THETAS[0], THETAS[0]], {}, "different"),
        (THETAS, {"rounds": 0}, "needs a round"),
        (THETAS, {"label": lambda xs, rounds: []}, "label answered with 0 items where it was given"),
        (THETAS, {"predict": lambda model, xs: [0]}, "predict answered with 1 items where it was given 60"),
        (THETAS, {"near": lambda mistakes, rng, known: Made([])}, "near answered with 0 items"),
    ],
)
def test_what_cannot_be_is_refused(problem, thetas, settings, rule):
    with pytest.raises(ValueError, match=rule):
        problem.run(thetas, **settings)


def test_data_are_needed(problem):
    for train, dev in (([], problem.dev), (problem.train, [])):
        with pytest.raises(ValueError, match="training and development data"):
            bort.agora.fit(THETAS, train, dev, Learner(fit_svm, predict))


def test_without_a_source_each_set_is_fitted_once(problem):
    outcome = bort.agora.fit(THETAS, problem.train, problem.dev, Learner(fit_svm, predict), replay=2)
    (done,) = outcome.rounds
    assert [trial.theta for trial in done.trials] == THETAS
    assert outcome.best == done.winner
    assert outcome.best.score == max(trial.score for trial in done.trials)
    assert (outcome.train, done.pruned, outcome.taught) == (problem.train, [], False)


def test_round_and_place_are_handed_to_the_learner(problem):
    slots = []

    def fit(theta, train, slot):
        slots.append((slot.round, slot.place, theta))
        return fit_svm(theta, train)

    outcome = problem.run(fit=fit)
    assert slots == [
        (done.number, place, trial.theta) for done in outcome.rounds for place, trial in enumerate(done.trials)
    ]


def test_the_source_is_handed_what_is_known_and_the_rounds_so_far(problem):
    known_at, told = [], []

    def near(mistakes, rng, known):
        known_at.append({*known})
        return jitter(mistakes, rng, known)

    def label(xs, rounds):
        told.append([done.number for done in rounds])
        return problem.label(xs, rounds)

    outcome = problem.run(near=near, label=label, forbidden=["a test's"])
    assert told == [list(range(1, n + 1)) for n in range(1, len(told) + 1)]
    assert known_at[0] == {point.x for point in (*problem.train, *problem.dev)} | {"a test's"}
    assert known_at[1] - known_at[0] == {point.x for point in outcome.rounds[0].growth.points}


def diverging(*slots):
    """Fits that diverge in some slots, and the slots that are fitted."""
    fitted = []

    def fit(theta, train, slot):
        fitted.append(slot)
        if slot in slots or (slot.round,) in slots:
            raise DivergedError("the outputs are not finite")
        return fit_svm(theta, train)

    return fit, fitted


def test_a_set_that_diverges_goes_and_is_not_tried_again(problem):
    fit, fitted = diverging((1, 0))
    journal = Noted()
    outcome = problem.run(fit=fit, journal=journal)
    assert outcome.rounds[0].failed == {str(THETAS[0]): "DivergedError: the outputs are not finite"}
    first = {key: value for key, value in journal.entries.items() if isinstance(key, tuple) and key[0] == 1}
    resumed = Noted(first)
    resumed.failed = list(journal.failed)
    fitted.clear()
    assert problem.run(fit=fit, journal=resumed).train == outcome.train
    assert not [slot for slot in fitted if slot.round == 1]


def test_a_round_that_diverges_as_a_whole_ends_it_with_the_best_before(problem):
    fit, _ = diverging((2,))
    outcome = problem.run(fit=fit, replay=1)
    assert [done.number for done in outcome.rounds] == [1]
    assert outcome.best == outcome.rounds[0].winner
    with pytest.raises(DivergedError):
        problem.run(fit=diverging((1,))[0])
