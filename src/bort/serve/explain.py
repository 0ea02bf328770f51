"""How much each word contributes to a prediction, by leaving one out at a time."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.serve.bodies import Explanation, Word
from bort.serve.errors import Kind, Refused

MOST_PIECES = 48
"""Maximum number of pieces per explanation; in longer texts, neighbouring words are left out together."""
MOST_CHARACTERS = 20_000
"""Maximum number of characters to explain: there is one copy of them for each piece, and all are tokenised."""

_WORD = re.compile(r"\S+")
Piece = tuple[Literal["text", "text_b"], int, int]


def pieces(example: Example, most: int = MOST_PIECES) -> list[Piece]:
    """Split a text or pair into words or, if there are more than `most`, into groups of neighbouring words.

    Args:
        example: A text or pair.
        most: Maximum number of pieces, at least 2.

    Returns:
        For each piece, its part (`text` or `text_b`), start and end.

    Example:
        >>> pieces(Example("The zip broke."), most=2)
        [('text', 0, 7), ('text', 8, 14)]
    """
    words: list[Piece] = [("text", *match.span()) for match in _WORD.finditer(example.text)]
    words += [("text_b", *match.span()) for match in _WORD.finditer(example.text_b or "")]
    if len(words) <= most:
        return words
    parts: list[list[Piece]] = [[word for word in words if word[0] == name] for name in ("text", "text_b")]
    sizes = count(-(-len(words) // most))  # a group does not span both texts of a pair, so it may have to be larger
    size = next(size for size in sizes if sum(-(-len(part) // size) for part in parts) <= most)
    groups = [part[start : start + size] for part in parts for start in range(0, len(part), size)]
    return [(group[0][0], group[0][1], group[-1][2]) for group in groups]


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
    label: str | None,
    answers_to: Callable[[Sequence[Example]], Awaitable[tuple[Sequence[str], NDArray[np.float32]]]],
) -> Explanation:
    """Explain a prediction by leaving out each word in turn.

    Args:
        example: A text or pair.
        label: The label to explain, one of the model's; by default the most likely one.
        answers_to: Returns the labels of the model that answers, and their probabilities, *shape* (texts, labels).

    Raises:
        Refused: The text or pair has too many characters.
    """
    characters = len(example.text) + len(example.text_b or "")
    if characters > MOST_CHARACTERS:
        rule = f"a text to explain must have at most {MOST_CHARACTERS:,} characters, not {characters:,}"
        raise Refused(Kind.TOO_LARGE, rule)
    found = pieces(example)
    names, rows = await answers_to([example, *(without(example, piece) for piece in found)])
    chosen = int(rows[0].argmax()) if label is None else names.index(label)
    falls = rows[0, chosen] - rows[1:, chosen]
    words = []
    for (name, start, end), fall in zip(found, falls, strict=True):
        text = example.text if name == "text" else example.text_b or ""
        words.append(Word(text=text[start:end], start=start, end=end, weight=float(fall), part=name))
    return Explanation(label=names[chosen], score=float(rows[0, chosen]), words=words)
