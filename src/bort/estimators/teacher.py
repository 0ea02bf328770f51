"""Teachers that label new texts in a fit: a model by name, a scikit-learn estimator, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.labels import Kind, class_name
from bort.data.tables.objects import DataError
from bort.estimators.indicators import indicators_of

Answers = Callable[[Sequence[Any]], Sequence[Any]]


def teacher_of(given: Any, kind: Kind, names: Sequence[str]) -> tuple[str | None, Answers | None]:
    """Distinguish a teacher that is given by name from one that is called.

    Args:
        given: A folder or hub name; an estimator with `predict_proba` and `classes_`, or with `predict`; a function of
            texts, or pairs, that returns a label, a value, a mapping of labels to probabilities, or None for each.
        kind: Kind of the student's task.
        names: Names of the student's labels, in the order of its columns.

    Returns:
        The name and the function; at least one of them is None.

    Raises:
        DataError: It is none of these.
    """
    if given is None or isinstance(given, str | Path):
        return (None if given is None else str(given)), None
    if hasattr(given, "predict_proba") and hasattr(given, "classes_"):

        def likely(texts: Sequence[Any]) -> list[dict[str, float]]:
            shares = _label_shares(given, given.predict_proba(list(texts)), kind)
            theirs = _columns(given, names, shares.shape[1]) if kind == "multilabel" else class_names(given.classes_)
            return [dict(zip(theirs, row, strict=True)) for row in shares.tolist()]

        return None, _named(likely, given)
    if hasattr(given, "predict"):

        def predicted(texts: Sequence[Any]) -> list[Any]:
            answers = given.predict(list(texts))
            if kind == "regression":
                return _plain(answers)
            if len(getattr(answers, "shape", ())) == 2:
                return _label_lists(given, answers, kind, names)
            return [class_name(each) if isinstance(each, str | int | float) else each for each in _plain(answers)]

        return None, _named(predicted, given)
    if callable(given):
        return None, given
    raise DataError("the teacher must be a model's name, a fitted classifier, or a function of texts", value=given)


def class_names(labels: Any) -> list[str]:
    """Names of classes in the form of a data file.

    Args:
        labels: Strings, numbers or truth values, as in `classes_`.
    """
    return [class_name(each) for each in _plain(labels)]


def _label_shares(teacher: Any, shares: Any, kind: Kind) -> NDArray[np.float64]:
    """The probability of each label. *Shape:* (texts, labels)."""
    if not isinstance(shares, list):
        return np.asarray(shares, dtype=np.float64)
    if kind != "multilabel":
        raise DataError("the teacher must give one label a text, as y does", value=type(teacher).__name__)
    # A forest, for example, gives for each label the probabilities of 0 and 1, or of only one if it has seen only that.
    yes = [np.asarray(classes).astype(bool) for classes in teacher.classes_]
    return np.stack([share[:, is_yes].sum(1) for share, is_yes in zip(shares, yes, strict=True)], axis=1)


def _label_lists(teacher: Any, answers: Any, kind: Kind, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The labels of each row of a matrix of 0 and 1."""
    matrix = indicators_of(answers, "teacher") if kind == "multilabel" else None
    if matrix is None:
        rule = "a column for each label" if kind == "multilabel" else "one label a text, as y does"
        raise DataError(f"the teacher must give {rule}", value=type(teacher).__name__)
    theirs = np.array(_columns(teacher, names, matrix.shape[1]), dtype=object)
    return [tuple(theirs[row > 0].tolist()) for row in matrix]


def _columns(teacher: Any, names: Sequence[str], count: int) -> Sequence[str]:
    """The label of each column, by the teacher's names or, as scikit-learn only numbers columns, in the order of y."""
    theirs = _plain(getattr(teacher, "classes_", []))
    if theirs and all(isinstance(each, str) for each in theirs):
        return class_names(theirs)
    if count != len(names):
        rule = f"the teacher must give {len(names)} columns, one for each label of y"
        raise DataError(rule, value=count)
    return names


def _plain(values: Any) -> list[Any]:
    found: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found


def _named(function: Answers, model: Any) -> Answers:
    function.__name__ = type(model).__name__
    return function
