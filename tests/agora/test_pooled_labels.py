"""Labels by teacher and student together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.agora.pooled_labels import TEACHER_ALONE, Weights, calibrated, clearly_better, pooled, weigh
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression

TASK = Classification(("a", "b"), "accuracy")
VALUES = Regression((), "pearson")


def says(rng, truth, classes, sureness):
    """Log-probabilities that favour the truth as far as one is sure of it."""
    scores = rng.normal(size=(len(truth), classes))
    scores[np.arange(len(truth)), truth] += sureness
    return TASK.says(scores)


def log_loss(log_p, truth):
    return -log_p[np.arange(len(truth)), truth].mean()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 6),
    size=st.integers(5, 80),
    teacher=st.floats(-1, 6),
    student=st.floats(-1, 6),
)
def test_the_pool_is_no_worse_than_either_and_than_both_alike(seed, classes, size, teacher, student):
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=size)
    t, s = says(rng, truth, classes, teacher), says(rng, truth, classes, student)
    weights = weigh(TASK, t, s, truth)
    assert min(weights) >= 0
    mixed = pooled(TASK, weights, t, s)
    np.testing.assert_allclose(np.exp(mixed).sum(-1), 1)
    penalised = log_loss(mixed, truth) + 1e-3 * (weights.teacher**2 + weights.student**2)
    for one in (Weights(1, 0), Weights(0, 1), Weights(0.5, 0.5)):
        other = log_loss(TASK.says(one.teacher * t + one.student * s), truth) + 1e-3 * (one.teacher**2 + one.student**2)
        assert penalised <= other + 1e-3


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 6), size=st.integers(5, 80), sureness=st.floats(0.1, 6))
def test_calibration_changes_how_certain_one_is_and_no_answer(seed, classes, size, sureness):
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=size)
    said = says(rng, truth, classes, sureness)
    made = calibrated(TASK, said, truth)
    np.testing.assert_allclose(np.exp(made).sum(-1), 1)
    assert log_loss(made, truth) <= log_loss(said, truth) + 2e-3
    np.testing.assert_array_equal(np.argsort(made)[made.std(-1) > 1e-3], np.argsort(said)[made.std(-1) > 1e-3])
    overconfident = calibrated(TASK, TASK.says(3 * said), truth)
    assert log_loss(overconfident, truth) <= log_loss(made, truth) + 2e-3


def test_values_need_no_calibration():
    values = np.array([[1.0], [2.0]])
    assert calibrated(VALUES, values, np.array([5.0, 6.0])) is values


def test_one_who_knows_nothing_is_not_heard():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    good, bad = says(rng, truth, 3, 4.0), says(rng, truth, 3, 0.0)
    assert weigh(TASK, good, bad, truth).student < 0.15
    weights = weigh(TASK, bad, good, truth)
    assert weights.teacher < 0.15
    np.testing.assert_array_equal(pooled(TASK, weights, bad, good).argmax(-1)[:20], good.argmax(-1)[:20])


def test_two_who_err_apart_are_better_together():
    rng = np.random.default_rng(1)
    truth = rng.integers(4, size=400)
    one, other = says(rng, truth, 4, 1.5), says(rng, truth, 4, 1.5)
    mixed = pooled(TASK, weigh(TASK, one[:200], other[:200], truth[:200]), one[200:], other[200:])
    right = [(log_p[-200:].argmax(-1) == truth[200:]).mean() for log_p in (one, other, mixed)]
    assert right[2] > max(right[:2]) + 0.05


def test_values_are_averaged_by_hand():
    truth = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    high, low = (truth + 1.0).reshape(-1, 1).astype(float), (truth - 3.0).reshape(-1, 1).astype(float)
    weights = weigh(VALUES, high, low, truth)
    assert weights == pytest.approx((0.75, 0.25))
    np.testing.assert_allclose(pooled(VALUES, weights, high, low)[:, 0], truth, atol=1e-6)


def test_what_the_teacher_does_not_know_stays_unknown():
    rng = np.random.default_rng(2)
    truth = rng.integers(2, size=40)
    teacher, student = says(rng, truth, 2, 1.0), says(rng, truth, 2, 1.0)
    teacher[3] = np.nan
    mixed = pooled(TASK, weigh(TASK, teacher, student, truth), teacher, student)
    assert np.isnan(mixed[3]).all()
    assert not np.isnan(np.delete(mixed, 3, axis=0)).any()
    assert weigh(TASK, np.full_like(teacher, np.nan), student, truth) == TEACHER_ALONE


def test_certainty_does_not_silence_the_other():
    """A hard label is a probability of 0 for all others, which no other opinion could outweigh."""
    truth = np.array([0, 1] * 20)
    hard = np.where(np.eye(2)[np.r_[truth[:30], 1 - truth[30:]]] > 0, 0.0, -np.inf)
    soft = says(np.random.default_rng(3), truth, 2, 3.0)
    weights = weigh(TASK, hard, soft, truth)
    assert np.isfinite(weights).all()
    assert (pooled(TASK, weights, hard, soft).argmax(-1) == truth).mean() > 0.9


@pytest.mark.parametrize(
    ("gained", "lost", "clear"),
    [(0, 0, False), (0, 9, False), (4, 0, False), (5, 0, True), (9, 2, True), (9, 3, False), (12, 12, False)],
)
def test_better_by_chance_is_not_clearly_better(gained, lost, clear):
    """By hand: 1/2^5 = 0.031 and (1 + 11 + 55) / 2^11 = 0.033 are below 0.05; 1/2^4 = 0.063 and 299 / 2^12 = 0.073
    are not. What both get right or wrong says nothing."""
    one = np.array([True] * gained + [False] * lost + [True, False] * 20)
    other = np.array([False] * gained + [True] * lost + [True, False] * 20)
    assert clearly_better(~one, ~other) is clear


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_weights_of_values_do_not_depend_on_the_unit(unit):
    truth = np.arange(4.0) * unit
    high, low = (truth + unit).reshape(-1, 1), (truth - 3 * unit).reshape(-1, 1)
    assert weigh(VALUES, high, low, truth) == pytest.approx((0.75, 0.25))
    assert weigh(VALUES, high, high, truth) == (1.0, 0.0), "both say the same"
