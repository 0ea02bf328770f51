"""Checks of what is given to a predictor or an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST_SHOWN = 80


def check_texts(given: Any) -> None:
    """Refuse a table, which would be read as the texts of its column names.

    Raises:
        TypeError: It is a mapping, or a table of pandas, polars, pyarrow or datasets.
    """
    if isinstance(given, Mapping) or hasattr(given, "columns") or hasattr(given, "column_names"):
        raise TypeError(f"must be texts, such as one column of a table, not a whole {type(given).__name__}")


def shown(given: object) -> str:
    """A value in an error message: its type, and its start."""
    spelled = repr(given)
    return f"{type(given).__name__} {spelled[:_LONGEST_SHOWN]}{'…' if len(spelled) > _LONGEST_SHOWN else ''}"
