"""How much each word moves an answer: leave one out, and see."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.serve.bodies import Word

MOST_PIECES = 48
"""Forward passes of one explanation; in a longer text neighbouring words are left out together."""

_WORD = re.compile(r"\S+")
Piece = tuple[Literal["text", "text_b"], int, int]


def pieces(example: Example, most: int = MOST_PIECES) -> list[Piece]:
    """The words of a text or pair as places in it, or as many groups of neighbours as are allowed.

    Args:
        example: A text or pair.
        most: Pieces in all.

    Returns:
        For each the part it stands in, its start and its end.

    Example:
        >>> pieces(Example("The zip broke."), most=2)
        [('text', 0, 7), ('text', 8, 14)]
    """
    words: list[Piece] = [("text", *match.span()) for match in _WORD.finditer(example.text)]
    words += [("text_b", *match.span()) for match in _WORD.finditer(example.text_b or "")]
    if len(words) <= most:
        return words
    group = -(-len(words) // most)
    grouped: list[Piece] = []
    for name in ("text", "text_b"):
        mine = [word for word in words if word[0] == name]
        grouped += [(name, mine[i][1], mine[min(i + group, len(mine)) - 1][2]) for i in range(0, len(mine), group)]
    return grouped


def without(example: Example, piece: Piece) -> Example:
    """The text or pair without one piece."""
    name, start, end = piece
    if name == "text":
        return Example(_cut(example.text, start, end), example.text_b)
    return Example(example.text, _cut(example.text_b or "", start, end))


def _cut(text: str, start: int, end: int) -> str:
    return " ".join(f"{text[:start]} {text[end:]}".split())


async def explain(
    example: Example,
    label: int | None,
    probabilities_of: Callable[[Sequence[Example]], Awaitable[NDArray[np.float32]]],
) -> tuple[int, float, list[Word]]:
    """Leave out each word in turn.

    Args:
        example: A text or pair.
        label: Number of the label to explain, by default the likeliest.
        probabilities_of: Probabilities of the labels. *Shape:* -> (texts, labels).

    Returns:
        The label, its probability, and the words with the fall of that probability where they are left out.
    """
    found = pieces(example)
    rows = await probabilities_of([example, *(without(example, piece) for piece in found)])
    chosen = int(rows[0].argmax()) if label is None else label
    falls = rows[0, chosen] - rows[1:, chosen]
    words = []
    for (name, start, end), fall in zip(found, falls, strict=True):
        text = example.text if name == "text" else example.text_b or ""
        words.append(Word(text=text[start:end], start=start, end=end, weight=float(fall), part=name))
    return chosen, float(rows[0, chosen]), words
