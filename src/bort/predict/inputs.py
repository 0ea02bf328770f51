"""Checks of what is given to a predictor or an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bort.errors import BortError

_LONGEST_SHOWN = 80


def check_texts(given: Any) -> None:
    """Refuse a table, which would be read as the texts of its column names.

    Raises:
        TypeError: It is a mapping, or a table of pandas, polars, pyarrow or datasets.
    """
    if isinstance(given, Mapping) or hasattr(given, "columns") or hasattr(given, "column_names"):
        raise TypeError(f"must be texts, such as one column of a table, not a whole {type(given).__name__}")


def check_readable(*texts: str | None) -> None:
    """Refuse lone surrogates, which a Python string can hold and no tokenizer reads.

    Raises:
        BortError: A text holds one.
    """
    for text in texts:
        if text is None or text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            rule = f"must be valid Unicode; character {error.start + 1} is half of a surrogate pair"
            raise BortError(rule, value=text) from None


def shown(given: object) -> str:
    """A value in an error message: its type, and its start."""
    spelled = repr(given)
    return f"{type(given).__name__} {spelled[:_LONGEST_SHOWN]}{'…' if len(spelled) > _LONGEST_SHOWN else ''}"
