"""Sets of hyper-parameters as sequences, and which of them go."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.pruning import contains, longest_common_subsequence, pruned, sequence

ITEMS = st.lists(st.sampled_from("abcd"), max_size=7)


def subsequences(items):
    return {part for size in range(len(items) + 1) for part in itertools.combinations(items, size)}


@given(ITEMS, ITEMS)
def test_the_longest_common_subsequence_is_common_and_longest(left, right):
    found = longest_common_subsequence(left, right)
    common = subsequences(left) & subsequences(right)
    assert found in common
    assert len(found) == max(map(len, common))


@given(ITEMS, ITEMS)
def test_containing_is_being_a_subsequence(whole, part):
    assert contains(whole, part) == (tuple(part) in subsequences(whole))


def test_of_several_longest_the_first_in_the_left_one_counts():
    assert longest_common_subsequence("ab", "ba") == ("a",)
    assert longest_common_subsequence("ba", "ab") == ("b",)


def theta(lr, batch, warmup):
    return {"lr": lr, "batch": batch, "warmup": warmup}


A, B, C, D, E = (
    theta(1e-4, 8, 0.1),
    theta(1e-4, 8, 0.4),
    theta(1e-4, 16, 0.1),
    theta(1e-5, 16, 0.4),
    theta(1e-5, 8, 0.4),
)


def test_a_set_is_the_sequence_of_its_items():
    assert sequence(A) == ("lr=0.0001", "batch=8", "warmup=0.1")


@pytest.mark.parametrize(
    ("accuracies", "gone"),
    [
        # D is the worst, and shares two items with E alone (1e-5, 0.4). E is above the median, and stays.
        ([0.7, 0.6, 0.65, 0.5, 0.8], {3}),
        # The same with E below the median: it goes with D.
        ([0.7, 0.8, 0.75, 0.5, 0.6], {3, 4}),
        # A is the worst; B and C share two items with it. B is the worse of them, so the sequence is (1e-4, 8): B goes,
        # C does not hold it.
        ([0.5, 0.6, 0.65, 0.7, 0.8], {0, 1}),
        # The other way round the sequence is (1e-4, 0.1), which C holds and B does not.
        ([0.5, 0.65, 0.6, 0.7, 0.8], {0, 2}),
        # All equal: A, the first, counts as the worst, then B; the last counts as the best.
        ([0.5, 0.5, 0.5, 0.5, 0.5], {0, 1}),
    ],
)
def test_examples_worked_by_hand(accuracies, gone):
    assert pruned([A, B, C, D, E], accuracies) == gone


def test_the_best_goes_only_as_the_last():
    assert pruned([A, B], [0.5, 0.6]) == {0}  # B holds the sequence, and is above the median
    assert pruned([A, B], [0.5, 0.5]) == {0}  # B is at the median, but it is the best
    assert pruned([A], [0.5]) == {0}


def test_sets_that_share_nothing_go_with_the_worst_where_they_are_no_better_than_the_median():
    one, two, three = ({"lr": 1}, {"lr": 2}, {"lr": 3})
    assert pruned([one, two, three], [0.1, 0.2, 0.3]) == {0, 1}  # the empty sequence is in every set


def test_halving_drops_the_worse_half_rounded_up():
    assert pruned([A, B, C, D, E], [0.7, 0.6, 0.65, 0.5, 0.8], "halving") == {1, 2, 3}
    assert pruned([A, B], [0.7, 0.6], "halving") == {1}
    assert pruned([A], [0.7], "halving") == {0}


ITEM = st.fixed_dictionaries({name: st.integers(0, 2) for name in ("lr", "batch", "warmup", "seed")})
SCORED = st.lists(st.tuples(ITEM, st.sampled_from([0.5, 0.6, 0.7, 0.8])), min_size=1, max_size=8)


@given(SCORED, st.sampled_from(["lcs", "halving"]))
def test_at_least_one_goes_never_the_best_and_the_worst_always(scored, rule):
    thetas, accuracies = zip(*scored, strict=True)
    gone = pruned(thetas, accuracies, rule)
    worst = min(range(len(thetas)), key=lambda place: accuracies[place])
    best = max(range(len(thetas)), key=lambda place: (accuracies[place], place))
    assert worst in gone
    assert len(thetas) == 1 or best not in gone
    if len(thetas) > 1:
        assert all(accuracies[place] <= statistics.median(accuracies) for place in gone)
