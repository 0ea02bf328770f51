"""The polynomial of measured times, on times that are made up and on real ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from bort.model.config import Preset, configure
from bort.ose.cost import LEAST_TIMED, fit_polynomial, sample, time_ms
from bort.ose.plan import make_plan
from bort.ose.space import SPACES, SearchSpace, Shape

MEMBERS = SPACES["nano"].members


def made_up(shape, weights=(0.2, 1e-4, 0.05, 0.01, 1e-4, 1e-4, 2e-6, 3e-6)):
    d, a, h, i = shape
    return float(np.dot(weights, (1, h, d, d * a, d * h, d * i, d * h * h, d * h * i)))


def test_a_polynomial_is_found_again():
    polynomial = fit_polynomial({shape: made_up(shape) for shape in sample(MEMBERS, 24)})
    assert polynomial.fit.mean_error < 1e-6
    assert polynomial.fit.spearman == pytest.approx(1)
    for shape in MEMBERS:
        assert polynomial(shape).total == pytest.approx(made_up(shape), rel=1e-6)


@given(st.integers(0, 10**6), st.floats(0, 0.08))
@settings(max_examples=20)
def test_noise_is_borne_and_told(seed, noise):
    rng = np.random.default_rng(seed)
    timed = {shape: made_up(shape) * float(np.exp(noise * rng.normal())) for shape in sample(MEMBERS, 24, seed)}
    polynomial = fit_polynomial(timed)
    others = [shape for shape in MEMBERS if shape not in timed]
    rank = spearmanr([polynomial(shape).total for shape in others], [made_up(shape) for shape in others]).statistic
    assert rank > 0.95
    assert polynomial.fit.mean_error <= 4 * noise + 1e-6
    assert min(polynomial.coefficients) >= 0


def test_time_falls_along_no_axis_whatever_was_timed():
    rng = np.random.default_rng(0)
    polynomial = fit_polynomial({shape: float(rng.uniform(1, 2)) for shape in sample(MEMBERS, 20)})
    times = {shape: polynomial(shape).total for shape in MEMBERS}
    for less, more in itertools.permutations(MEMBERS, 2):
        if all(a <= b for a, b in zip(less, more, strict=True)):
            assert times[less] <= times[more], (less, more)
    assert polynomial.fit.mean_error > 0.05


def test_too_few_are_refused():
    with pytest.raises(ValueError, match=f"at least {LEAST_TIMED}"):
        fit_polynomial(dict.fromkeys(MEMBERS[: LEAST_TIMED - 1], 1.0))


@given(st.integers(1, 400), st.integers(0, 5))
def test_a_sample_is_of_the_space_and_has_corners(count, seed):
    chosen = sample(MEMBERS, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, 300)
    assert set(chosen) <= set(MEMBERS)
    assert chosen == sample(MEMBERS, count, seed)
    corners = [s for s in chosen if s.depth in (1, 6) and s.heads in (4, 12) and s.hidden in (192, 576)]
    assert corners


@given(st.integers(1, 20))
def test_a_sample_of_a_space_that_is_all_corners(count):
    members = SearchSpace((1, 2), (1, 2), (8, 16), (8, 24)).members
    assert len(set(sample(members, count))) == len(sample(members, count)) == min(count, 16)


@pytest.mark.parametrize("maximum", [None, "3,2,32,64"])
def test_the_maximum_point_is_always_timed(extraction, monkeypatch, maximum):
    monkeypatch.setattr("bort.ose.plan.measure", lambda shapes, costs: {shape: made_up(shape) for shape in shapes})
    plan = make_plan(extraction(time="measured", timed_members=10, maximum=maximum), 400)
    assert next(iter(plan.costs.timed)) == plan.top
    assert len(plan.costs.timed) == 10


def test_real_times_rank_members_of_very_different_size():
    space = SearchSpace((1, 2, 4), (1, 4), (16, 64, 192), (16, 256))
    config = {shape: configure(Preset(*shape), 300) for shape in space}
    cpu = torch.device("cpu")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    timed = {s: time_ms(config[s], batch_size=1, sequence_length=64, device=cpu) for s in sample(space.members, 12)}
    assert torch.equal(before, torch.random.get_rng_state())
    polynomial = fit_polynomial(timed)
    small, large = polynomial(Shape(1, 1, 16, 16)).total, polynomial(Shape(4, 4, 192, 256)).total
    assert 0 < small < large
