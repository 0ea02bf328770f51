"""Transforms τ of texts: each makes a similar example from an example and a random generator.

In a pair, one of the two texts is changed. A transform that finds nothing to change returns the texts unchanged; `Near`
drops them.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import replace

from bort.data.tables.examples import Example

Transform = Callable[[Example, random.Random], Example]
OfText = Callable[[str, random.Random], str]

SHARE = 0.15
"""Share of the words that a transform changes, at least one; the same share that is masked to train a masked LM."""
_WORD = re.compile(r"\S+")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEXT_KEYS = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2] for row in _KEYS for place, key in enumerate(row)
}


def of_text(change: OfText) -> Transform:
    """Turn a function of a text into a transform of examples, which changes the text, or one text of a pair."""

    def transform(example: Example, rng: random.Random) -> Example:
        if example.text_b is not None and rng.random() < 0.5:
            return replace(example, text_b=change(example.text_b, rng), label=None)
        return replace(example, text=change(example.text, rng), label=None)

    return transform


def chain(*transforms: Transform) -> Transform:
    """Combine transforms into one that applies them in sequence, all to the same text of a pair."""

    def change(text: str, rng: random.Random) -> str:
        example = Example(text)
        for each in transforms:
            example = each(example, rng)
        return example.text

    return of_text(change)


def some(words: Sequence[object], rng: random.Random) -> list[int]:
    """Return the places of a random share of the words, at least one, in order."""
    return sorted(rng.sample(range(len(words)), min(len(words), max(1, round(SHARE * len(words))))))


def replace_words(
    text: str, rng: random.Random, change: Callable[[str], str], *, eligible: Callable[[str], bool]
) -> str:
    """Replace some of the eligible words; everything else stays, including spaces."""
    words = [found for found in _WORD.finditer(text) if eligible(found[0])]
    if not words:
        return text
    for place in reversed(some(words, rng)):
        start, stop = words[place].span()
        text = text[:start] + change(text[start:stop]) + text[stop:]
    return text


def delete_words(text: str, rng: random.Random) -> str:
    """Delete some words, but not all."""
    words = text.split()
    if len(words) < 2:
        return text
    gone = {*some(words, rng)[: len(words) - 1]}
    return " ".join(word for place, word in enumerate(words) if place not in gone)


def swap_words(text: str, rng: random.Random) -> str:
    """Swap some words with their neighbours."""
    words = text.split()
    if len(words) < 2:
        return text
    for place in some(words[1:], rng):
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def mistype(text: str, rng: random.Random) -> str:
    """Mistype some words of three letters or more: swap, drop or double a letter, or hit a neighbouring key."""

    def mistyped(word: str) -> str:
        place = rng.randrange(len(word) - 1)
        letter = word[place]
        slips = [
            word[:place] + word[place + 1] + letter + word[place + 2 :],
            word[:place] + word[place + 1 :],
            word[:place] + letter + word[place:],
        ]
        near = _NEXT_KEYS.get(letter.lower())
        if near:
            slips.append(word[:place] + rng.choice(near) + word[place + 1 :])
        return rng.choice([slip for slip in slips if slip != word])

    return replace_words(text, rng, mistyped, eligible=lambda word: sum(map(str.isalpha, word)) >= 3)


def core(word: str) -> tuple[str, str, str]:
    """Split a word from the punctuation before and after it."""
    bare = word.strip(string.punctuation + "“”‘’…—–")
    before, _, after = word.partition(bare) if bare else (word, "", "")
    return before, bare, after


def synonyms(neighbours: Callable[[str], Sequence[str]]) -> OfText:
    """Return a function that replaces some words by near neighbours, where there are any.

    Args:
        neighbours: Returns the words near a word, both in lower case.
    """

    def change(text: str, rng: random.Random) -> str:
        def other(word: str) -> str:
            before, bare, after = core(word)
            chosen = rng.choice(neighbours(bare.lower()))
            if bare.isupper() and len(bare) > 1:
                chosen = chosen.upper()
            elif bare[0].isupper():
                chosen = chosen.capitalize()
            return before + chosen + after

        return replace_words(text, rng, other, eligible=lambda word: bool(neighbours(core(word)[1].lower())))

    return change


delete = of_text(delete_words)
"""Deletes words."""
swap = of_text(swap_words)
"""Swaps neighbouring words."""
typo = of_text(mistype)
"""Mistypes words."""
