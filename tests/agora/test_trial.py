"""A trial on texts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bort.agora.trial import TextLearner
from bort.finetuning.train_once import Labelled
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression


def predicted(task, says, monkeypatch):
    monkeypatch.setattr(TextLearner, "says", lambda *_: np.array(says))
    return TextLearner(SimpleNamespace(task=task), None, None, None, Path()).predict(None, [])


def test_values_are_rounded_to_digits_whatever_their_unit(monkeypatch):
    values = [[1.23456789e-6], [-12345.6789], [0.0]]
    expected = [[1.234568e-6], [-12345.68], [0.0]]
    assert predicted(Regression((), "pearson"), values, monkeypatch) == expected


def test_log_probabilities_are_rounded_to_five_decimals(monkeypatch):
    found = predicted(Classification(("a", "b"), "accuracy"), [[-0.1234567, -12.1234567]], monkeypatch)
    assert found == [pytest.approx([-0.12346, -12.12346], abs=1e-9)]


@pytest.mark.parametrize(
    ("grown_epochs", "most", "tokens", "expected"),
    [
        (10, 3, 10, 10),  # as given, although it is more than over the given data
        (10, 3, 1000, 10),
        (1, 30, 10, 3),
        (None, 3, 10, 3),
        (None, 30, 10, 8),
        (None, 30, 1000, 3),
    ],
)
def test_grown_data_are_seen_as_often_as_given_ones_and_at_least_as_asked_for(grown_epochs, most, tokens, expected):
    fitter = SimpleNamespace(limits=SimpleNamespace(max_epochs=most))
    learner = TextLearner(fitter, None, [0] * 100, grown_epochs, Path())

    def epochs(size):
        return learner._epochs(Labelled(SimpleNamespace(lengths=[tokens] * size), np.zeros(size)))

    assert epochs(1000) == expected
    assert epochs(100) == most


@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e20])
def test_a_value_is_near_enough_in_any_unit(unit):
    """Within half a standard deviation, whose square leaves single precision."""
    values = unit * np.array([1, 2, 3, 4], np.float32)
    learner = TextLearner(SimpleNamespace(task=Regression((), "pearson")), None, values, None, Path())
    answers = (values + unit * np.array([0.1, -0.5, 0.7, 2.0], np.float32)).tolist()
    assert learner.right([[answer] for answer in answers], values.tolist()) == [True, True, False, False]
