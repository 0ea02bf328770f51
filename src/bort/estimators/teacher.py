"""Teachers that label new texts in a fit: a model by name, a scikit-learn estimator, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bort.data.tables.objects import DataError

Answers = Callable[[Sequence[Any]], Sequence[Any]]


def teacher_of(given: Any) -> tuple[str | None, Answers | None]:
    """Distinguish a teacher that is given by name from one that is called.

    Args:
        given: A folder or hub name; an estimator with `predict_proba` and `classes_`, or with `predict`; a function of
            texts, or pairs, that returns a label, a value, a mapping of labels to probabilities, or None for each.

    Returns:
        The name and the function; at least one of them is None.

    Raises:
        DataError: It is none of these.
    """
    if given is None or isinstance(given, str | Path):
        return (None if given is None else str(given)), None
    if hasattr(given, "predict_proba") and hasattr(given, "classes_"):

        def likely(texts: Sequence[Any]) -> list[dict[str, float]]:
            names = [str(label) for label in _plain(given.classes_)]
            return [dict(zip(names, row, strict=True)) for row in _plain(given.predict_proba(list(texts)))]

        return None, _named(likely, given)
    if hasattr(given, "predict"):
        return None, _named(lambda texts: _plain(given.predict(list(texts))), given)
    if callable(given):
        return None, given
    raise DataError("the teacher must be a model's name, a fitted classifier, or a function of texts", value=given)


def _plain(values: Any) -> list[Any]:
    found: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found


def _named(function: Answers, model: Any) -> Answers:
    function.__name__ = type(model).__name__
    return function
