"""The search with members that are numbers and errors that are functions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bort.ose
from bort.errors import BortError
from bort.ose import Bound, Cost, coefficient
from bort.ose.algorithm import Evaluation
from bort.ose.criteria import could_win, decision, front, savings
from bort.ose.ordering import order
from bort.workers import InProcess

whole = st.integers(1, 50)


@st.composite
def spaces(draw, least=2, most=25):
    """Costs of members 0, 1, 2, …, one of which costs most in both."""
    costs = draw(st.lists(st.tuples(whole, whole), min_size=least - 1, max_size=most - 1))
    top = (max(p for p, _ in costs) + draw(st.integers(0, 9)), max(i for _, i in costs) + draw(st.integers(0, 9)))
    costs.insert(draw(st.integers(0, len(costs))), top)
    return {member: Cost(*cost) for member, cost in enumerate(costs)}


@st.composite
def smooth(draw):
    """A space with an error that changes little along its order, and by how much at most."""
    costs = draw(spaces(least=3, most=60))
    roughness = draw(st.floats(0, 0.3))
    steps = draw(st.lists(st.floats(-1, 1), min_size=len(costs), max_size=len(costs)))
    errors, level = {}, draw(st.floats(-3, 3))
    for member, step in zip(sorted(costs, key=lambda m: (costs[m], m)), steps, strict=True):
        level += roughness * step
        errors[member] = math.exp(level)
    return costs, errors, roughness


def found(costs, errors, **settings):
    return bort.ose.search(costs, costs.__getitem__, errors.__getitem__, **settings)


# The coefficient


@given(whole, whole, whole, whole, st.floats(1e-3, 1e3))
def test_the_coefficient_is_the_published_one(p, i, more_p, more_i, error):
    top = Cost(p + more_p, i + more_i)
    exact = Fraction(more_p, p + more_p) * Fraction(more_i, i + more_i) / Fraction(error)
    assert coefficient(Cost(p, i), top, error) == pytest.approx(float(exact), rel=1e-12)


def test_the_maximum_point_has_none():
    top = Cost(100.0, 7.0)
    assert coefficient(top, top, 1e-9) == 0
    assert coefficient(Cost(100.0, 1.0), top, 1.0) == 0  # as large as T, if faster


@pytest.mark.parametrize("error", [math.nan, math.inf, -math.inf])
def test_a_training_that_diverged_scores_0(error):
    assert coefficient(Cost(1, 1), Cost(2, 2), error) == 0


@pytest.mark.parametrize("error", [0.0, -1.0])
def test_an_error_of_nothing_is_a_mistake(error):
    with pytest.raises(ValueError, match="above 0"):
        coefficient(Cost(1, 1), Cost(2, 2), error)


# ε = 1 is the exhaustive search


@given(spaces(), st.data())
def test_with_epsilon_1_the_best_of_all_is_found(costs, data):
    top = max(costs.values())
    errors = {member: data.draw(st.sampled_from([0.5, 1.0, 2.0, math.nan])) for member in costs}
    if all(cost == top for cost in costs.values()):
        with pytest.raises(BortError, match="more than its maximum point"):
            found(costs, errors)
        return
    outcome = found(costs, errors)
    weights = {m: coefficient(costs[m], top, errors[m]) for m in costs}
    assert outcome.best.coefficient == max(weights.values())
    assert weights[outcome.best.member] == outcome.best.coefficient
    assert outcome.ordering.kept_savings == 1
    assert {c.member for c in outcome.candidates} == {m for m in costs if costs[m] != top}
    assert all(candidate.diverged == math.isnan(errors[candidate.member]) for candidate in outcome.candidates)


# ε > 1


@given(spaces(least=3), st.integers(1, 30))
def test_one_of_each_block_is_tried_the_first(costs, epsilon):
    if epsilon > len(costs):
        with pytest.raises(BortError, match="epsilon"):
            order(costs, costs.__getitem__, epsilon=epsilon)
        return
    top = max(costs.values())
    if all(cost == top for cost in costs.values()):
        return
    ordering = order(costs, costs.__getitem__, epsilon=epsilon)
    assert [r.member for r in ordering.members] == sorted(costs, key=lambda m: (costs[m].parameters, costs[m].time, m))
    inside = [r for r in ordering.members if r.block is not None]
    assert [r.block for r in inside] == [place // epsilon for place in range(len(inside))]
    assert [r.taken for r in inside] == [place % epsilon == 0 for place in range(len(inside))]
    assert all((r.cost == top) == (r.block is None) and not (r.block is None and r.taken) for r in ordering.members)
    assert [r.place for r in ordering.members] == list(range(len(costs)))


@given(smooth(), st.integers(1, 12))
@settings(max_examples=300)
def test_the_ratio_keeps_the_stated_guarantee(instance, epsilon):
    """(1 - γ) exp(-L (ε - 1)), with γ computed and L what the errors were made with."""
    costs, errors, roughness = instance
    top = max(costs.values())
    if all(cost == top for cost in costs.values()):
        return
    epsilon = min(epsilon, len(costs))
    best = found(costs, errors).best.coefficient
    outcome = found(costs, errors, epsilon=epsilon)
    assert outcome.best.coefficient >= outcome.ordering.guarantee(roughness) * best * (1 - 1e-9)
    assert outcome.roughness <= roughness + 1e-9


@given(st.integers(2, 40), st.integers(1, 12), st.floats(0, 0.2))
def test_where_time_grows_with_size_the_savings_are_kept_in_full(count, epsilon, roughness):
    """The first of a block is then its smallest and fastest: only the errors' roughness can cost anything."""
    costs = {n: Cost(10 + n, 5 + n * n) for n in range(count)}
    errors = {n: math.exp(-roughness * n) for n in range(count)}
    epsilon = min(epsilon, count)
    outcome = found(costs, errors, epsilon=epsilon)
    assert outcome.ordering.kept_savings == 1
    ratio = outcome.best.coefficient / found(costs, errors).best.coefficient
    assert ratio >= math.exp(-roughness * (epsilon - 1)) * (1 - 1e-9)
    assert outcome.roughness == pytest.approx(roughness if len(outcome.candidates) > 1 else 0, abs=1e-12)


def test_kept_savings_by_hand():
    """T = (10, 10). Blocks {a, b}, {c}: a saves .9 * .1, b .8 * .9."""
    costs = {"a": Cost(1, 9), "b": Cost(2, 1), "c": Cost(3, 3), "t": Cost(10, 10)}
    ordering = order(costs, costs.__getitem__, epsilon=2)
    assert ordering.kept_savings == pytest.approx(0.09 / 0.72)
    assert ordering.guarantee(0.5) == pytest.approx(0.09 / 0.72 * math.exp(-0.5))
    assert savings(costs["a"], ordering.maximum) == pytest.approx(0.09)


# Budgets, maximum points


@given(spaces(), st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_budgets_bound_what_is_tried(costs, most_parameters, most_time, epsilon):
    budgets = [
        Bound("parameters", lambda m: costs[m].parameters, most_parameters),
        Bound("milliseconds", lambda m: costs[m].time, most_time),
    ]
    top = max(costs.values())
    within = [m for m in costs if costs[m] != top and costs[m].parameters <= most_parameters]
    within = [m for m in within if costs[m].time <= most_time]
    settings = {"epsilon": min(epsilon, len(costs)), "budgets": budgets}
    if not within:
        with pytest.raises(BortError, match=r"no member of the space keeps|more than its maximum"):
            order(costs, costs.__getitem__, **settings)
        return
    ordering = order(costs, costs.__getitem__, **settings)
    assert {r.member for r in ordering.members if r.block is not None} == set(within)
    assert ordering.maximum == top  # the yardstick stays


def test_the_nearest_member_to_a_budget_is_named():
    costs = {"a": Cost(100, 9), "b": Cost(200, 1), "t": Cost(400, 10)}
    budgets = [Bound("parameters", lambda m: costs[m].parameters, 90), Bound("ms", lambda m: costs[m].time, 0.5)]
    rule = "the nearest, b, has parameters 200 where at most 90 may be, ms 1 where at most 0.5 may be"
    with pytest.raises(BortError, match=rule):
        order(costs, costs.__getitem__, budgets=budgets)


def test_a_space_without_a_maximum_point_is_refused():
    costs = {"large": Cost(9, 1), "slow": Cost(1, 9)}
    with pytest.raises(BortError, match=r"no maximum point.*large has the most parameters, and slow takes the longest"):
        order(costs, costs.__getitem__)
    assert len(order(costs, costs.__getitem__, maximum=Cost(9, 9)).taken) == 2


def test_a_maximum_point_must_be_one():
    costs = {"a": Cost(1, 1), "b": Cost(5, 5)}
    with pytest.raises(BortError, match=r"maximum.*b has more"):
        order(costs, costs.__getitem__, maximum=Cost(9, 4))
    ordering = order(costs, costs.__getitem__, maximum=Cost(5, 5))
    assert [r.member for r in ordering.taken] == ["a"]


def test_equal_costs_are_ordered_by_the_members():
    costs = dict.fromkeys([(2, 1), (1, 9), (1, 2)], Cost(1, 1)) | {(0, 0): Cost(2, 2)}
    assert [r.member for r in order(costs, costs.__getitem__).members] == [(1, 2), (1, 9), (2, 1), (0, 0)]


def test_the_answer_keeps_a_bound_on_its_error():
    """W takes the smallest; a bound on error keeps it out, which none on size does."""
    costs = {n: Cost(1 + n, 1 + n) for n in range(6)}
    errors = {n: 1 - n / 10 for n in costs}
    assert found(costs, errors).best.member == 0
    bounded = found(costs, errors, max_error=0.75)
    assert bounded.best.member == 3
    assert [c.member for c in bounded.ranking] == [3, 4, 0, 1, 2]
    with pytest.raises(BortError, match=r"max-error.*no candidate keeps the bound; the nearest, 4, has 0.6"):
        found(costs, errors, max_error=0.5)


def test_a_search_that_errors_did_not_decide_is_seen():
    savings_decide = decision([0.9, 0.5, 0.1], [1.0, 1.01, 0.99])
    assert savings_decide.rank_correlation == pytest.approx(1)
    assert savings_decide.spread_ln_error < 0.02 < 0.5 < savings_decide.spread_ln_savings
    assert decision([0.9, 0.8, 0.7], [9.0, 2.0, 1.0]).rank_correlation == pytest.approx(-1)
    assert decision([0.9, 0.0, 0.7], [1.0, 2.0, 1.0]).rank_correlation is None, "of two, nothing is said"


def test_who_could_win_as_a_perfect_student():
    saved = [0.8, 0.6, 0.5, 0.1]
    assert could_win(saved, perfect=4.0, untrained=6.0) == 2  # 0.6 / 4 > 0.8 / 6 > 0.5 / 4
    assert could_win(saved, perfect=1e-6, untrained=6.0) == 4
    assert could_win(saved, perfect=6.0, untrained=6.0) == 1


# Journal, workers


class Noted:
    """A journal in memory, which may fail after a number of entries."""

    def __init__(self, entries=(), dies_after=10**9):
        self.entries, self.left = dict(entries), dies_after

    def evaluation(self, member):
        return self.entries.get(member)

    def keep_evaluation(self, member, trial):
        if not self.left:
            raise InterruptedError
        self.left -= 1
        assert member not in self.entries, "done twice"
        self.entries[member] = trial


@given(spaces(least=4), st.floats(0, 0.99))
def test_an_interrupted_search_goes_on_and_does_nothing_twice(costs, share):
    top = max(costs.values())
    if all(cost == top for cost in costs.values()):
        return
    errors = {m: 1 + (7 * m % 5) for m in costs}
    expected = found(costs, errors)
    dies_after = int(share * len(expected.candidates))
    journal, trained = Noted(dies_after=dies_after), []

    def error(member):
        trained.append(member)
        return Evaluation(errors[member], {"seconds": member})

    with pytest.raises(InterruptedError):
        bort.ose.search(costs, costs.__getitem__, error, journal=journal)
    assert len(trained) == dies_after + 1
    trained.clear()
    told = []
    settings = {"journal": Noted(journal.entries), "on_candidate": lambda c: told.append(c.member)}
    resumed = bort.ose.search(costs, costs.__getitem__, error, **settings)
    assert len(trained) == len(expected.candidates) - dies_after
    assert [(c.member, c.coefficient) for c in resumed.candidates] == [
        (c.member, c.coefficient) for c in expected.candidates
    ]
    members = [c.member for c in expected.candidates]
    assert told[:dies_after] == [member for member in members if member in journal.entries]
    assert told[dies_after:] == [member for member in reversed(members) if member not in journal.entries]
    assert all(c.evaluation.about == {"seconds": c.member} for c in resumed.candidates)


def test_candidates_may_be_trained_side_by_side():
    costs = {n: Cost(1 + n, 1 + n) for n in range(9)}
    errors = {n: 1 / (1 + n) for n in range(9)}
    assert found(costs, errors, workers=Backwards()) == found(costs, errors)


class Backwards:
    """Workers whose results come in the wrong order."""

    def map(self, function, items):
        yield from reversed(list(InProcess().map(function, items)))


def test_a_candidate_that_raises_does_not_end_the_search():
    costs = {n: Cost(1 + n, 1 + n) for n in range(6)}
    journal = Noted()

    def error(member):
        if member in (0, 3):
            raise RuntimeError(f"{member} will not")
        return 1.0

    outcome = bort.ose.search(costs, costs.__getitem__, error, journal=journal)
    assert outcome.best.member == 1
    assert [c.member for c in outcome.candidates if c.failed] == [0, 3]
    assert not any(c.diverged for c in outcome.candidates), "only what is not finite has diverged"
    assert str(journal.entries[3].failure) == "3 will not"
    assert [c.member for c in outcome.ranking] == [1, 2, 4, 0, 3]
    with pytest.raises(ZeroDivisionError):
        bort.ose.search(costs, costs.__getitem__, lambda member: 1 / 0)


@pytest.mark.parametrize(("error", "rule"), [(2.0, "the nearest, 1, has 2; .* --max-error"), (math.nan, "none has a")])
def test_no_candidate_within_the_bound_is_an_error(error, rule):
    with pytest.raises(BortError, match=f"no candidate keeps the bound.*{rule}"):
        bort.ose.search(range(1, 6), lambda m: Cost(m * m, m), lambda m: error, max_error=1.0)


def test_one_after_another_each_is_noted_before_the_next():
    costs = {n: Cost(1 + n, 1 + n) for n in range(5)}
    events = []
    journal = Noted()

    def error(member):
        events.append(("train", member))
        assert len(journal.entries) == 3 - member  # the costliest first
        return 1.0

    bort.ose.search(costs, costs.__getitem__, error, journal=journal)
    assert len(events) == 4


# The front


@given(st.lists(st.tuples(whole, whole, whole), max_size=30))
def test_the_front_is_what_nothing_dominates(points):
    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    assert front(points) == [n for n, p in enumerate(points) if not any(dominates(q, p) for q in points)]


def test_what_diverged_is_on_no_front():
    assert front([(1, math.nan), (2, 1.0), (3, math.inf), (3, 1.0)]) == [1]
