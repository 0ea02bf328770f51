"""Checks of what is given to a predictor or an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.data.tables.examples import Example
from bort.errors import BortError

_LONGEST_SHOWN = 80


def texts_given(given: Any) -> Any:
    """Return texts as Python's, where pyarrow's column would yield its own scalars.

    A table is refused, which would be read as the texts of its column names.

    Raises:
        TypeError: It is a mapping, or a table of pandas, polars, pyarrow or datasets.
    """
    if isinstance(given, Mapping) or hasattr(given, "columns") or hasattr(given, "column_names"):
        raise TypeError(f"must be texts, such as one column of a table, not a whole {type(given).__name__}")
    return given.to_pylist() if hasattr(given, "to_pylist") else given


def unlike_training(pairs: bool | None, examples: Sequence[Example]) -> str | None:
    """What is wrong with single texts for a model fine-tuned on pairs, or the reverse, in words; None if nothing is.

    Args:
        pairs: Whether it was fine-tuned on pairs; None if unknown.
        examples: What it is asked about.
    """
    if pairs is None or all((example.text_b is not None) == pairs for example in examples):
        return None
    return f"was fine-tuned on {'pairs of texts' if pairs else 'single texts'} and is asked about others"


def check_readable(*texts: str | None, **place: Any) -> None:
    """Refuse lone surrogates, which a Python string can hold and no tokenizer reads.

    Args:
        texts: Texts, or a model's labels.
        place: Where they stand, for the message: see `BortError`.

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
            raise BortError(rule, value=text, **place) from None


def shown(given: object) -> str:
    """A value in an error message: its type, and its start."""
    spelled = repr(given)
    return f"{type(given).__name__} {spelled[:_LONGEST_SHOWN]}{'…' if len(spelled) > _LONGEST_SHOWN else ''}"
