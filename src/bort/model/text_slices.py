"""Cuts a list of texts where its encodings would take too much memory at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

MOST_TEXTS, MOST_CHARACTERS = 1024, 1 << 18
"""Enough that all cores have work. An encoding of the tokenizers library takes 200 bytes per token."""
_Text = TypeVar("_Text", str, str | tuple[str, str])


def text_slices(texts: Iterable[_Text]) -> Iterator[list[_Text]]:
    """Yield consecutive texts in lists of at most 1,024 texts and 2^18 characters; a longer text has a list to itself.

    Args:
        texts: Texts, or pairs of texts.
    """
    part: list[_Text] = []
    characters = 0
    for text in texts:
        size = len(text) if isinstance(text, str) else sum(map(len, text))
        if part and (len(part) == MOST_TEXTS or characters + size > MOST_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += size
    if part:
        yield part
