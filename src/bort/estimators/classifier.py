"""A text classifier as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from bort.data.tables.labels import Kind
from bort.data.tables.objects import DataError
from bort.estimators.base import TextEstimator, labels_of
from bort.estimators.indicators import column_names, in_order, indicators_of
from bort.estimators.teacher import class_names
from bort.tasks.task import Task

_LEAST = np.finfo(np.float64).tiny


class BortClassifier(ClassifierMixin, TextEstimator):
    """A small BERT that classifies texts or pairs of texts, as a scikit-learn estimator.

    If `y` is a matrix of 0 and 1, a text may have several labels or none. `predict` then returns such a matrix, with a
    threshold per label that is chosen on the development data.

    It works in `cross_val_score`, `GridSearchCV`, `Pipeline` and `CalibratedClassifierCV`, and can be cloned, and
    pickled with `joblib.dump`: the file contains the model itself.

        >>> from bort import BortClassifier
        >>> texts = ["Where is my parcel?", "The zip broke.", "It has not arrived.", "It came in pieces."]
        >>> labels = ["delivery", "damage", "delivery", "damage"]
        >>> classifier = BortClassifier(method="plain", max_steps=2, learning_rates=5e-4, batch_sizes=4)
        >>> classifier.fit(texts, labels, X_dev=texts, y_dev=labels).predict(["When will it come?"]).shape
        (1,)
        >>> classifier.classes_.tolist()
        ['damage', 'delivery']

    Attributes:
        classes_: The labels of `y`, sorted; for a matrix, the names or numbers of its columns. *Shape:* (classes,).
        multilabel_: Whether a text may have several labels.
        report_: A `FitReport`: scores with intervals, figures by label, wrong predictions; None after `load`.
        model_: The fitted model's files.
    """

    _kinds = ("classification", "multilabel")

    def __sklearn_tags__(self) -> Any:
        """Declare that `y` may also be a matrix of labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most likely label of each text, *shape* (texts,), or 0 or 1 per label, *shape* (texts, classes).

        Raises:
            DataError: `X` does not hold texts or pairs.

        Example:
            >>> BortClassifier.load("runs/topics").predict(["Where is it?", "It is torn."]).tolist()
            ['delivery', 'damage']
        """
        check_is_fitted(self, "model_")
        if self.multilabel_:
            return (self._margins(X) > 0).astype(np.int64)
        labels: NDArray[Any] = self.classes_[self._outputs(X).argmax(-1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each label. *Shape:* (texts, classes), in the order of `classes_`.

        Raises:
            DataError: `X` does not hold texts or pairs.

        Example:
            >>> BortClassifier.load("runs/topics").predict_proba(["Where is it?", "It is torn."]).round().tolist()
            [[0.0, 1.0], [1.0, 0.0]]
        """
        outputs = self._outputs(X)
        return expit(outputs) if self.multilabel_ else softmax(outputs, axis=-1)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Compute raw outputs. *Shape:* (texts, classes); with two classes (texts,), positive for the second.

        For several labels, these are each label's log-odds minus those of its threshold: a text gets the positive ones.

        Raises:
            DataError: `X` does not hold texts or pairs.

        Example:
            >>> (BortClassifier.load("runs/topics").decision_function(["Where is it?", "It is torn."]) > 0).tolist()
            [True, False]
        """
        check_is_fitted(self, "model_")
        if self.multilabel_:
            return self._margins(X)
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "model_")
        return self._logits(X)[:, self._columns]

    def _margins(self, X: Any) -> NDArray[np.float64]:
        logits = self._logits(X)
        task = self.model_.predictor(self._threads()).task
        margins = logits - logit([*task.threshold_by_name.values()])
        # Rounding must not make an answer at a threshold differ from the one of `bort.Predictor`.
        given = task.decide(logits.astype(np.float32)) > 0
        margins = np.where(given, np.maximum(margins, _LEAST), np.minimum(margins, 0.0))
        return margins[:, self._columns]

    def _kind(self) -> Kind:
        return "multilabel" if self.multilabel_ else "classification"

    def _fit_targets(self, y: Any) -> list[Any]:
        matrix = indicators_of(y, "y")
        self.multilabel_ = matrix is not None
        if matrix is not None:
            columns, self._columns = column_names(y), np.arange(matrix.shape[1])
            self.classes_ = self._columns if columns is None else columns
            self._check_names("the names of columns must differ, and have no space around them")
            return self._label_lists(matrix)
        labels = labels_of(y, "y")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DataError("a label must not be NaN or inf", file="y")
        check_classification_targets(labels)
        self.classes_, places = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            found = f"there is only the class {self.classes_.tolist()[0]!r}" if len(labels) else "there are no labels"
            rule = f"a classifier needs at least two classes; {found}"
            raise DataError(rule, file="y")
        names = self._check_names("labels must differ in more than type, and have no space around them")
        self._columns = np.arange(len(names))
        return [names[place] for place in places.tolist()]

    def _check_names(self, rule: str) -> list[str]:
        names = self._class_names()
        if len({*names}) < len(names) or any(name != name.strip() or not name for name in names):
            raise DataError(rule, file="y", value=names)
        return names

    def _targets(self, y: Any, name: str) -> list[Any]:
        if self.multilabel_:
            return self._label_lists(in_order(y, self.classes_, name))
        names = self._class_names()
        known = dict(zip(self.classes_.tolist(), names, strict=True))
        labels = labels_of(y, name).tolist()
        for number, label in enumerate(labels, start=1):
            if label not in known:
                rule = f"the label must be one of {', '.join(names[:12])}"
                if isinstance(label, str | int | float) and class_names([label])[0] in names:
                    rule = f"labels must be of the type that they have in y, {type(self.classes_.tolist()[0]).__name__}"
                raise DataError(rule, file=name, line=number, value=label)
        return [known[label] for label in labels]

    def _label_lists(self, matrix: NDArray[np.int64]) -> list[tuple[str, ...]]:
        names = np.array(self._class_names(), dtype=object)
        return [tuple(names[row > 0].tolist()) for row in matrix]

    def _class_names(self) -> list[str]:
        return class_names(self.classes_)

    def _described(self) -> dict[str, Any]:
        labels = self.classes_.tolist()
        return {"classes": [each if isinstance(each, str | bool | int | float) else str(each) for each in labels]}

    def _restore(self, task: Task, about: Mapping[str, Any]) -> None:
        labels = about.get("classes")
        named = class_names(labels) if isinstance(labels, list) else []
        if sorted(named) != sorted(task.names):  # none were saved, or config.json has been given other names since
            named, labels = sorted(task.names), sorted(task.names)
        self.multilabel_ = task.kind == "multilabel"
        self.classes_ = np.array(labels)
        self._columns = np.array([task.names.index(name) for name in named])
        self.report_ = None
