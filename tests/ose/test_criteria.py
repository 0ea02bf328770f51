"""What decides whether a search can be trusted: doubled steps, agreeing ranks, the noise of an error."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.ose.criteria import Cost, coefficient, doublings, is_level, noise_band, rank_agreement

errors = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=12, unique=True)


@given(st.integers(1, 50), st.one_of(st.none(), st.integers(1, 5000)))
def test_steps_are_doubled_as_far_as_they_may(steps, most):
    tried = doublings(steps, most)
    assert tried[0] == steps
    assert all(after == 2 * before for before, after in itertools.pairwise(tried))
    if most is None:
        assert tried == [steps]
    else:
        assert tried[-1] <= max(most, steps)
        assert 2 * tried[-1] > most


@given(errors, st.floats(0.1, 3))
def test_ranks_agree_whatever_errors_grow_into(shorter, power):
    longer = [error**power for error in shorter]
    if len(set(longer)) == len(longer):
        assert rank_agreement(shorter, longer) == pytest.approx(1)
        assert rank_agreement(shorter, [-error for error in longer]) == pytest.approx(-1)


def test_candidates_that_diverged_have_no_rank():
    assert rank_agreement([1.0, 2.0, math.nan, 3.0], [1.0, 2.0, 0.5, 3.0]) == pytest.approx(1)
    assert rank_agreement([1.0, 2.0, math.nan], [1.0, 2.0, 0.5]) is None
    assert rank_agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


@given(errors, st.floats(0, 0.5))
def test_the_band_is_twice_the_difference_of_seeds_that_all_differ_alike(ones, apart):
    pairs = [(one, one * math.exp(apart * (-1) ** place)) for place, one in enumerate(ones)]
    assert noise_band(pairs) == pytest.approx(2 * apart, abs=1e-9)


def test_without_two_finite_errors_noise_is_unknown():
    assert noise_band([]) is None
    assert noise_band([(1.0, math.nan)]) is None
    assert noise_band([(1.0, 1.0), (math.nan, 2.0)]) == 0


@given(st.floats(0.01, 10), st.floats(0, 1), st.floats(0, 1))
def test_what_errors_no_further_apart_than_the_band_give_is_level(error, band, apart):
    cost, top = Cost(1, 1), Cost(2, 2)
    best, other = coefficient(cost, top, error), coefficient(cost, top, error * math.exp(apart))
    if abs(band - apart) > 1e-6:
        assert is_level(other, best, band) == (apart < band)
    assert is_level(best, best, 0)
    assert not is_level(0, best, band)
