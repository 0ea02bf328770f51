"""Answers of teachers, and their conversion to log-probabilities, log-odds or values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from bort.data.tables.labels import Kind, class_name
from bort.tasks.task import Task

Answer = str | float | Sequence[str] | Mapping[str, float] | None
"""A label, a list of labels, a value, label probabilities, or None for an unknown answer."""
_MOST_NAMES = 12


class WrongAnswerError(ValueError):
    """An invalid answer; the message completes the sentence "the teacher …"."""


def answer_row(answer: Any, task: Task) -> list[float]:
    """Convert an answer to log-probabilities of classes, log-odds of labels, or a single value; NaN if unknown.

    Args:
        answer: See `Answer`; a blank string counts as None. Class probabilities need not sum to 1. In a multilabel
            task each label has its own probability, which is 0 for labels that are not named. Labels may also be
            numbers or truth values, and all may be NumPy's.
        task: The task.

    Raises:
        WrongAnswerError: Unknown labels, invalid probabilities, or no finite number for a regression.

    Example:
        >>> answer_row({"cat": 3, "dog": 1}, Classification(("cat", "dog"), "accuracy"))
        [-0.2876820724517809, -1.3862943611198906]
    """
    answer = _native(answer)
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return [math.nan] * task.outputs
    return _ROWS[task.kind](answer, task)


def parsed_line(line: str, task: Task) -> Any:
    """Parse an output line: a plain label or number, or a JSON object, string or (in a multilabel task) list.

    Raises:
        WrongAnswerError: The line starts like JSON but is invalid.
    """
    line = line.strip()
    begins = ("{", '"', "[") if task.kind == "multilabel" else ("{", '"')
    if line in task.names or not line.startswith(begins):
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise WrongAnswerError("must answer with valid JSON where a line begins with a bracket or a quote") from None


def _class_row(answer: Any, task: Task) -> list[float]:
    if isinstance(answer, Mapping):
        return _log_shares(answer, task)
    name = _name(answer, task, task.names)
    return [0.0 if name == other else -math.inf for other in task.names]


def _labels_row(answer: Any, task: Task) -> list[float]:
    known = {*task.names}  # to look up each label in the tuple takes long if there are thousands
    if isinstance(answer, Mapping):
        shares = _shares(answer, task, known)
    else:
        given = [*answer] if isinstance(answer, list | tuple | set | frozenset) else [answer]
        shares = {_name(name, task, known): 1.0 for name in given}
    for share in shares.values():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise WrongAnswerError(f"{_rule(task)}, from 0 to 1")
    return [_log_odds(float(shares.get(name, 0.0))) for name in task.names]


def _log_odds(p: float) -> float:
    if p in (0.0, 1.0):
        return math.inf if p else -math.inf
    return math.log(p) - math.log1p(-p)


def _native(given: Any) -> Any:
    """NumPy's scalars and arrays as Python's."""
    return given.tolist() if isinstance(given, np.generic | np.ndarray) else given


def _shares(answer: Mapping[Any, Any], task: Task, known: Container[str]) -> dict[str, Any]:
    return {_name(name, task, known): _native(share) for name, share in answer.items()}


def _name(answer: Any, task: Task, known: Container[str]) -> str:
    given = _native(answer)
    for name in (str(given), class_name(given)) if isinstance(given, bool | int | float) else (str(given),):
        if name in known:
            return name
    raise WrongAnswerError(_rule(task))


def _value_row(answer: Any, task: Task) -> list[float]:
    return [_value(answer)]


def _value(answer: Any) -> float:
    try:
        value = math.nan if isinstance(answer, bool) else float(answer)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise WrongAnswerError("must answer with a finite number")
    return value


def _log_shares(answer: Mapping[Any, Any], task: Task) -> list[float]:
    shares = _shares(answer, task, {*task.names})
    for share in shares.values():
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share < math.inf:
            raise WrongAnswerError(f"{_rule(task)}, finite numbers of at least 0")
    try:
        total = math.fsum(shares.values())
    except OverflowError:
        total = math.inf
    if not 0 < total < math.inf:
        raise WrongAnswerError(f"{_rule(task)}, with a sum above 0")
    # The quotient of a tiny share would underflow to 0.
    logs = {name: math.log(share) - math.log(total) for name, share in shares.items() if share}
    return [logs.get(name, -math.inf) for name in task.names]


def _rule(task: Task) -> str:
    names = ", ".join(task.names[:_MOST_NAMES]) + (", …" if len(task.names) > _MOST_NAMES else "")
    some = "a list of some of " if task.kind == "multilabel" else ""
    return f"must answer with {some}{names} or probabilities of these"


_ROWS: Mapping[Kind, Callable[[Any, Task], list[float]]] = {
    "classification": _class_row,
    "regression": _value_row,
    "multilabel": _labels_row,
}
