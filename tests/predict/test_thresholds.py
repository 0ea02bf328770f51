"""Thresholds: precise enough above, too imprecise below."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bort.data.tables.examples import Example
from bort.predict.thresholds import NEVER, Thresholds, least_thresholds
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel

CLASSES = 3
TASK = Classification(("a", "b", "c"), "accuracy")
# Few values, so that some are equal; large ones, so that some probabilities are exactly 1.
LOGITS = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 30), st.just(CLASSES)), elements=st.sampled_from([-40, -1, 0, 0.5, 1, 2, 90])
)


@given(LOGITS, st.data(), st.floats(0.05, 1))
def test_the_least_that_is_precise_enough(logits, data, least_precision):
    found = TASK.activate(logits)
    targets = data.draw(arrays.arrays(np.int64, len(logits), elements=st.integers(0, CLASSES - 1)))
    thresholds = least_thresholds(found, *TASK.claims(logits, targets), least_precision)
    answers = found.argmax(-1)
    for label in range(CLASSES):
        sure, right = found[answers == label, label], targets[answers == label] == label
        good = [
            least for least in {0.0, *sure.tolist()}
            if (sure > least).any() and right[sure > least].mean() >= least_precision
        ]  # fmt: skip
        assert thresholds[label] == min(good, default=NEVER)


@given(LOGITS, st.data())
def test_what_is_answered(logits, data):
    found = TASK.activate(logits)
    thresholds = data.draw(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1)))
    sure = TASK.sure(logits, thresholds)
    for row, is_sure in zip(found, sure, strict=True):
        assert is_sure == (float(row.max()) > thresholds.get("abc"[row.argmax()], 0))
    assert TASK.sure(logits, {}).all()
    assert not TASK.sure(logits, dict.fromkeys("abc", NEVER)).any()


@given(LOGITS)
def test_probabilities(logits):
    found = TASK.activate(logits)
    assert found.shape == logits.shape
    assert found.sum(-1) == pytest.approx(np.ones(len(found)), abs=1e-6)
    assert (found[np.arange(len(found)), logits.argmax(-1)] == found.max(-1)).all()


def test_rows_and_labels_are_told_apart():
    """One of two rows gets a label, which is right; the other label is right too seldom."""
    logits = np.array([[4.0, 4.0], [-4.0, -4.0]], np.float32)
    examples = [Example("x", label=("a",)), Example("y", label=())]
    task = MultiLabel(("a", "b"), "f1_micro", thresholds=(0.5, 0.5))
    made = Thresholds.learned(task, logits, examples, 0.6)
    assert (made.answered, made.right) == (0.5, 1.0)
    assert next(made.told()) == "50.0% of the gate's rows are answered; 100.0% of the labels given are right"
