"""Several labels a text: metrics, thresholds, and what else the kind of task says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.kinds import task_of
from bort.tasks.label_metrics import multilabel_scores
from bort.tasks.label_thresholds import best_thresholds
from bort.tasks.metrics import METRICS
from bort.tasks.multilabel import MultiLabel, rarest_labels

NAMES = ("a", "b", "c")
TASK = MultiLabel(NAMES, "f1_micro")
OUTPUTS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 25), st.just(3)), elements=st.sampled_from([-9, -1, 0, 0.5, 2])
)


def labelled(*labels) -> list[Example]:
    return [Example("x", label=label, source="a.jsonl", line=line) for line, label in enumerate(labels, start=1)]


def drawn(data, outputs):
    return data.draw(arrays.arrays(np.float32, outputs.shape, elements=st.sampled_from([0, 1])))


@given(OUTPUTS, st.data())
def test_metrics_are_scikit_learns(outputs, data):
    truth, guess = drawn(data, outputs), (outputs > 0).astype(np.float32)
    found = multilabel_scores(truth, guess, outputs, resamples=0)
    assert tuple(found) == METRICS["multilabel"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        micro = metrics.f1_score(truth, guess, average="micro", zero_division=0)
        each = metrics.f1_score(truth, guess, average=None, zero_division=0)
    assert found["f1_micro"].value == pytest.approx(micro)
    occurring = (truth + guess).any(0)
    assert found["f1_macro"].value == pytest.approx(each[occurring].mean() if occurring.any() else 0.0)
    assert found["exact_match"].value == pytest.approx(metrics.accuracy_score(truth, guess))
    present = [label for label in range(3) if truth[:, label].any()]
    precisions = [metrics.average_precision_score(truth[:, label], outputs[:, label]) for label in present]
    assert found["mean_average_precision"].value == pytest.approx(np.mean(precisions) if present else 0.0)


@given(OUTPUTS, st.data())
def test_a_resample_is_as_good_as_its_rows(outputs, data):
    """Each row drawn twice is each row drawn once: counts and rows are the same thing."""
    truth = drawn(data, outputs)
    once = multilabel_scores(truth, outputs > 0, outputs, resamples=0)
    twice = multilabel_scores(
        np.tile(truth, (2, 1)), np.tile(outputs > 0, (2, 1)), np.tile(outputs, (2, 1)), resamples=0
    )
    assert {name: score.value for name, score in once.items()} == pytest.approx(
        {name: score.value for name, score in twice.items()}
    )


def test_intervals_hold_the_value_and_shrink_with_the_rows():
    rng = np.random.default_rng(0)
    truth = (rng.random((800, 4)) < 0.3).astype(np.float32)
    outputs = truth + rng.normal(size=truth.shape)
    wide, narrow = (multilabel_scores(truth[:n], outputs[:n] > 0.5, outputs[:n], resamples=300) for n in (80, 800))
    for name in METRICS["multilabel"]:
        assert wide[name].low <= wide[name].value <= wide[name].high
        assert narrow[name].high - narrow[name].low < wide[name].high - wide[name].low
    with pytest.raises(ValueError, match="one shape"):
        multilabel_scores(truth, truth[:5], truth)


@given(OUTPUTS, st.data())
def test_a_single_label_gets_its_best_threshold(outputs, data):
    """With one label there is nothing to borrow from others: no threshold has a better F1."""
    truth = drawn(data, outputs)[:, :1]
    p = TASK.activate(outputs)[:, :1]
    [threshold] = best_thresholds(p, truth)
    if not truth.any():
        assert threshold == 0.5
        return

    def f1(least: float) -> float:
        return float(metrics.f1_score(truth[:, 0], p[:, 0] > least, zero_division=0))

    assert f1(threshold) == pytest.approx(max(map(f1, [0.0, *p[:, 0].tolist()])))
    assert 0 < threshold < 1


@given(OUTPUTS, st.data())
def test_thresholds_chosen_on_data_suit_them_at_least_as_well_as_one_half(outputs, data):
    truth = drawn(data, outputs)
    tripled = [np.tile(each, (3, 1)) for each in (outputs, truth)]
    fitted = TASK.fitted(*tripled)
    assert len(fitted.thresholds) == 3
    assert fitted.fitted(outputs, 1 - truth) == fitted, "what is chosen stays"
    assert TASK.score(outputs, truth, resamples=0) == TASK.fitted(outputs, truth).score(outputs, truth, resamples=0)


def test_a_label_without_an_example_takes_what_suits_the_others():
    rng = np.random.default_rng(1)
    truth = np.zeros((400, 3), np.float32)
    truth[:, :2] = rng.random((400, 2)) < 0.2
    # All probabilities are half of what they should be: the best threshold lies far below one half.
    p = np.clip(0.2 * truth + 0.1 * rng.random((400, 3)), 0, 1)
    p[:, 2] = 0.01 * rng.random(400)
    thresholds = best_thresholds(p, truth)
    assert ((thresholds[:2] >= 0.1) & (thresholds[:2] <= 0.2)).all()
    assert 0.01 < thresholds[2] < 0.3


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_few_examples_do_not_decide_alone(gap):
    """One example of a label would set its threshold just below itself; held towards the others' it is a sane one."""
    rng = np.random.default_rng(2)
    truth = (rng.random((300, 2)) < 0.3).astype(np.float32)
    p = np.clip(np.where(truth > 0, 0.75, 0.25) + 0.2 * (rng.random((300, 2)) - 0.5), 0, 1)
    truth[:, 1] = 0
    truth[0, 1], p[:, 1] = 1, 0.2 * rng.random(300)
    p[0, 1] = 0.95 - gap
    assert 0.2 < best_thresholds(p, truth)[1] < 0.8


def test_read_off_the_labels():
    task = task_of(labelled(("b",), (), ("a", "b")))
    assert task == MultiLabel(("a", "b"), "f1_micro")
    assert task.targets(labelled(("a",), (), ("b", "a"))).tolist() == [[1, 0], [0, 0], [1, 1]]
    assert task_of(labelled(("b",), ()), names=("c", "b")).names == ("c", "b")
    assert task_of(labelled(("b", "a")), metric="exact_match").metric == "exact_match"


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([("a",), ("a",)], {}, "two distinct labels; there is only 'a'"),
        ([(), ()], {}, "two distinct labels; there is none"),
        ([("a",), ("b",)], {"kind": "classification"}, r"a\.jsonl:1: .*must be one label, and no list"),
        ([("a",), ("b",)], {"kind": "regression"}, r"a\.jsonl:1: .*a label must be a finite number"),
        (["a", "b"], {"kind": "multilabel"}, r"a\.jsonl:1: .*must be a list of labels"),
        ([("a",), ("b",)], {"metric": "accuracy"}, "multilabel task must be one of f1_micro"),
        ([("a",), ()], {"names": ("a",)}, "--classes: .*at least two labels"),
        ([("a",), ("b",)], {"names": ("a", "c")}, r"a\.jsonl:2: .*'b': the label must be one of 'a', 'c'"),
    ],
)
def test_refused(labels, settings, message):
    with pytest.raises(BortError, match=message):
        task_of(labelled(*labels), **settings)


def test_answers():
    task = MultiLabel.of_model(NAMES, "f1_micro", {"a": 0.2, "c": 0.9})
    assert task.thresholds == (0.2, 0.5, 0.9)
    assert task.threshold_by_name == {"a": 0.2, "b": 0.5, "c": 0.9}
    outputs = np.array([[-1.0, 1.0, 1.0], [-9.0, -9.0, 9.0], [-9.0, 0.0, 0.0]], np.float32)
    assert task.labels(outputs) == [("a", "b"), ("c",), ()]
    truth = task.targets(labelled(("a", "b"), (), ("a", "c")))
    assert task.errors(outputs, truth).tolist() == [0, 1, 2]
    assert task.losses(outputs, truth)[1] < task.losses(outputs, truth)[2]
    assert task.wrong(outputs, truth) == [{"row": 2, "answer": []}, {"row": 1, "answer": ["c"]}]
    assert task.confusion(outputs, truth) is None
    assert task.by_label(outputs, truth)[0] == {
        "label": "a",
        "examples": 2,
        "answered": 1,
        "right": 1,
        "threshold": 0.2,
    }
    assert task.label_counts(truth) == {"a": 2, "b": 1, "c": 1}


@given(OUTPUTS, st.data())
def test_losses_have_these_slopes(outputs, data):
    truth, step = drawn(data, outputs), 1e-5
    exact = TASK.slopes(outputs, truth)
    moved = outputs.astype(np.float64)
    moved[:, 1] += step
    found = (TASK.losses(moved, truth) - TASK.losses(outputs, truth)) / step
    np.testing.assert_allclose(found, exact[:, 1], atol=1e-4)
    np.testing.assert_allclose(
        TASK.losses(outputs, truth), [metrics.log_loss(y, p, labels=[0, 1]) for y, p in zip(truth, TASK.activate(
            outputs.astype(np.float64)), strict=True)], rtol=1e-6,
    )  # fmt: skip


def test_what_one_says_who_knows_nothing():
    truth = np.array([[1, 0, 1], [1, 0, 0]], np.float32)
    assert TASK.activate(TASK.base_rates(truth)).tolist() == pytest.approx([0.75, 0.25, 0.5])
    assert (TASK.decide(TASK.mistaken(truth)) == 1 - truth).all()
    mean = TASK.mean([np.log(np.array([[3.0, 1.0, 1.0]])), np.array([[-np.inf, 0.0, np.inf]])])
    assert TASK.activate(mean)[0].tolist() == pytest.approx([0.375, 0.5, 0.75], abs=1e-5)


def test_labels_to_learn_from():
    says = np.array([[np.log(3), -np.inf, 0.0]])
    assert TASK.taught(says, hard=False, temperature=1.0) == [(0.75, 0.0, 0.5)]
    assert TASK.taught(says, hard=True, temperature=1.0) == [(1.0, 0.0, 0.0)]
    assert TASK.taught(2 * says, hard=False, temperature=2.0) == [(0.75, 0.0, 0.5)]
    mixed = TASK.collected([[0, 1, 0], (0.75, 0.0, 0.5)])
    assert mixed.dtype == np.float32
    assert TASK.hardened(mixed).tolist() == [[0, 1, 0], [1, 0, 0]]


@given(OUTPUTS, st.data())
def test_the_rarest_label_of_each(outputs, data):
    truth = drawn(data, outputs)
    counts = truth.sum(0)
    for row, rarest in zip(truth, rarest_labels(truth), strict=True):
        own = [label for label in range(3) if row[label] and counts[label] > 1]
        assert rarest == (min(own, key=lambda label: counts[label]) if own else 3)
