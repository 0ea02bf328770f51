"""A text regressor as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from bort.data.tables.objects import DataError
from bort.estimators.base import TextEstimator, labels_of
from bort.tasks.task import Task


class BortRegressor(RegressorMixin, TextEstimator):
    """A small BERT that predicts a number for a text or a pair of texts, as a scikit-learn estimator.

        >>> from bort import BortRegressor
        >>> pairs = [("a cat", "a cat"), ("a cat", "the moon"), ("some rain", "rain"), ("rain", "a bicycle")]
        >>> regressor = BortRegressor(method="plain", max_steps=2, learning_rates=5e-4, batch_sizes=4)
        >>> regressor.fit(pairs, [5.0, 0.5, 4.5, 0.0], X_dev=pairs, y_dev=[5.0, 0.5, 4.5, 0.0]).predict(pairs).shape
        (4,)

    Attributes:
        report_: A `FitReport`: scores with intervals, and the largest errors; None after `load`.
        model_: The fitted model's files.
    """

    _kinds = ("regression",)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the value of each text. *Shape:* (texts,).

        Raises:
            DataError: `X` does not hold texts or pairs.

        Example:
            >>> texts = ["one", "one two", "one two three", "one two three four"] * 5
            >>> BortRegressor().fit(texts, [1, 2, 3, 4] * 5).predict(["one two", "three"]).shape
            (2,)
        """
        return self._outputs(X)[:, 0]

    def _fit_targets(self, y: Any) -> list[float]:
        return self._targets(y, "y")

    def _targets(self, y: Any, name: str) -> list[float]:
        labels = labels_of(y, name)
        try:
            values = labels.astype(np.float64)
        except (TypeError, ValueError):
            raise DataError("a label must be a number", file=name, value=labels[0]) from None
        if (wrong := np.flatnonzero(~np.isfinite(values))).size:
            rule = "a label must be a finite number, neither NaN nor infinity"
            raise DataError(rule, file=name, line=int(wrong[0]) + 1, value=float(values[wrong[0]]))
        found: list[float] = values.tolist()
        return found

    def _restore(self, task: Task, about: Mapping[str, Any]) -> None:
        self.report_ = None
