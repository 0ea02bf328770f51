"""Parsing of an LLM's answers into labels or values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from bort.agora.llm.client import Reply
from bort.agora.llm.label_shares import label_shares
from bort.agora.llm.prompt import answer_key
from bort.data.tables.labels import Kind
from bort.tasks.task import Task

_THOUGHTS = re.compile(r"\A.*</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
"""Reasoning up to its last end; some servers leave out its beginning."""
_UNFINISHED = re.compile(r"\A\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\s*\n(.*?)\n?```\Z", re.DOTALL)
_BEGINNINGS = ("{", "[", "```")
"""What an answer begins with, and reasoning does not."""
CUT_OFF = "cut off"


def read_answer(reply: Reply, task: Task) -> dict[str, Any]:
    """Return what to keep of a reply: `answer`, see `answer_row`, or `abstained` with the reason.

    Args:
        reply: Reply of the LLM.
        task: The task.
    """
    if reply.refusal or reply.finish == "content_filter":
        return {"abstained": "refused"}
    text = plain_text(reply.text)
    found = _READ[task.kind](text, task)
    if found is None:
        return {"abstained": CUT_OFF if reply.finish == "length" else "blank" if not text else _no_answer(task)}
    if isinstance(found, str) and reply.tokens:
        return {"answer": label_shares(reply.tokens, task.names, found) or found}
    return {"answer": found}


def plain_text(text: str) -> str:
    """Strip the reasoning before an answer and the code fence around it; unfinished reasoning has no answer."""
    text = text.strip()
    if not text.startswith(_BEGINNINGS):  # an answer may mention such a tag
        text = _THOUGHTS.sub("", text).strip()
    if _UNFINISHED.match(text):
        return ""
    fenced = _FENCE.match(text)
    return text if fenced is None else fenced[1].strip()


def json_part(text: str) -> str:
    """Return the text from the first brace to the last; the whole text if there is none."""
    return text[text.find("{") : text.rfind("}") + 1] or text


def _no_answer(task: Task) -> str:
    return "no label" if task.names else "no number"


def _labels(text: str, task: Task) -> list[str] | None:
    """Return the labels of a list, or a single label as a list; None if anything else is given."""
    given = _given(text, task)
    if not isinstance(given, list):
        given = [given]
    names = [_known(each, task) for each in given]
    return None if None in names else [name for name in names if name is not None]


def _label(text: str, task: Task) -> str | None:
    if text in task.names:
        return text
    return _known(_given(text, task), task)


def _known(given: Any, task: Task) -> str | None:
    if isinstance(given, bool):
        given = str(given).lower()
    if not isinstance(given, str | int | float):
        return None
    name = str(given).strip()
    if name in task.names:
        return name
    alike = [other for other in task.names if _folded(other) == _folded(name)]
    return alike[0] if len(alike) == 1 else None


def _value(text: str, task: Task) -> float | None:
    given = _given(text, task)
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _given(text: str, task: Task) -> Any:
    """Return the value under the expected key in an answer's JSON, or else the whole answer."""
    try:
        found = json.loads(json_part(text))
    except (ValueError, RecursionError):
        return text.lstrip("\"'`* \n").rstrip("\"'`*. \n")  # .75 is a number
    if not isinstance(found, dict):
        return found
    return found.get(answer_key(task))


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


_READ: Mapping[Kind, Callable[[str, Task], Any]] = {
    "classification": _label,
    "regression": _value,
    "multilabel": _labels,
}
