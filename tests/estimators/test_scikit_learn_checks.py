"""scikit-learn's own checks of estimators; they know numbers only, so rows of numbers are spelled out as texts."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from bort.agora import plain_run
from bort.estimators.base import TextEstimator
from bort.estimators.classifier import BortClassifier
from bort.estimators.regressor import BortRegressor
from bort.report import Report

_ENCODER = {"model": ""}


class SpelledOut(TextEstimator):
    """Trains one step, on texts such as "0.12 3.40"."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        for poor in (tags.classifier_tags, tags.regressor_tags):
            if poor is not None:
                poor.poor_score = True  # after one step
        return tags

    def fit(self, X, y):
        X = validate_data(self, X, ensure_min_samples=2)
        texts = spelled(X)
        return super().fit(texts, y, X_dev=texts, y_dev=y)

    def _arguments(self, *given):
        arguments = super()._arguments(*given)
        arguments.model = _ENCODER["model"]
        return arguments

    def _logits(self, X):
        return super()._logits(spelled(validate_data(self, X, reset=False)))


class NumbersClassifier(SpelledOut, BortClassifier):
    """A classifier of rows of numbers."""


class NumbersRegressor(SpelledOut, BortRegressor):
    """A regressor of rows of numbers."""


def spelled(X):
    return [" ".join(f"{value:.2f}" for value in row[:4]) for row in X]


def expected_to_fail(estimator):
    """Checks that cannot hold of texts, each with its reason."""
    return {}


@pytest.fixture(autouse=True)
def _one_step(world, monkeypatch):
    monkeypatch.setitem(_ENCODER, "model", world.encoder)
    monkeypatch.setattr(plain_run, "finetune_report", lambda *_: Report("Fit"))  # a page takes longer than the fit


_SETTINGS = {
    "method": "plain",
    "settings": {"keep_better": False, "refit": False},
    "max_steps": 1,
    "learning_rates": 1e-3,
    "batch_sizes": 8,
    "max_length": 32,
}


@pytest.mark.slow
@parametrize_with_checks(
    [NumbersClassifier(**_SETTINGS), NumbersRegressor(**_SETTINGS)],
    expected_failed_checks=expected_to_fail,
    xfail_strict=True,
)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_a_fit_of_numbers_is_one_of_texts(world):
    X = np.random.default_rng(0).normal(size=(12, 2))
    y = np.arange(12) % 2
    assert NumbersClassifier(**_SETTINGS).fit(X, y).predict(X).shape == (12,)
    with pytest.raises(ValueError, match="must be a text"):
        BortClassifier(model=world.encoder, **_SETTINGS).fit(X, y)
