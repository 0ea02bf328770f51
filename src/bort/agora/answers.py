"""What somebody who is asked may answer of a text, and what that says of the task's classes or value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bort.tasks.task import Task

Answer = str | float | Mapping[str, float] | None
"""A label, a value, probabilities of labels, or None from somebody who does not know."""
_MOST_NAMES = 12


class WrongAnswerError(ValueError):
    """An answer that breaks a rule; its text completes the sentence "the teacher …"."""


def answer_row(answer: Any, task: Task) -> list[float]:
    """Log-probabilities of the task's classes, or the value alone; NaN where nothing is known.

    Args:
        answer: As of `Answer`; a blank text counts as None. Shares of labels need not sum to 1.
        task: What was asked.

    Raises:
        WrongAnswerError: No label and no shares of labels, or no finite number for a regression.

    Example:
        >>> answer_row({"cat": 3, "dog": 1}, Task("classification", ("cat", "dog"), "accuracy"))
        [-0.2876820724517809, -1.3862943611198906]
    """
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return [math.nan] * task.outputs
    if task.kind == "regression":
        return [_value(answer)]
    if isinstance(answer, Mapping):
        return _log_shares(answer, task)
    name = str(answer).lower() if isinstance(answer, bool) else str(answer)
    if name not in task.names:
        raise WrongAnswerError(_rule(task))
    return [0.0 if name == other else -math.inf for other in task.names]


def parsed_line(line: str, task: Task) -> Any:
    """The answer that a line spells: a label or number as it is, or a JSON object or string.

    Raises:
        WrongAnswerError: It begins as JSON, and is none.
    """
    line = line.strip()
    if line in task.names or not line.startswith(("{", '"')):
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise WrongAnswerError("must answer with valid JSON where a line begins with { or a quotation mark") from None


def _value(answer: Any) -> float:
    try:
        value = math.nan if isinstance(answer, bool) else float(answer)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise WrongAnswerError("must answer with a finite number")
    return value


def _log_shares(answer: Mapping[Any, Any], task: Task) -> list[float]:
    shares = {str(name): share for name, share in answer.items()}
    if not {*shares} <= {*task.names}:
        raise WrongAnswerError(_rule(task))
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
    # The quotient of a tiny share would be 0.
    logs = {name: math.log(share) - math.log(total) for name, share in shares.items() if share}
    return [logs.get(name, -math.inf) for name in task.names]


def _rule(task: Task) -> str:
    names = ", ".join(task.names[:_MOST_NAMES]) + (", …" if len(task.names) > _MOST_NAMES else "")
    return f"must answer with {names} or probabilities of these"
