"""Vectors of examples from an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bort.data.tables.examples import Example
from bort.model.pair_features import pair_features
from bort.predict.encoder import Encoder, Vectors
from bort.progress import bar


def hold_pairs(examples: Sequence[Example]) -> bool:
    """Whether examples are pairs; without labels, some of these may lack their second text."""
    return any(one.text_b is not None for one in examples)


def side_vectors(examples: Sequence[Example], encoder: Encoder) -> list[Vectors]:
    """Vectors of length 1 of the texts and, for pairs, of the second texts; a progress bar is shown.

    Args:
        examples: At least one example; a pair without its second text has an empty one.
        encoder: The encoder, which reads equal texts once.

    Returns:
        *Shape:* (examples, D) each.
    """
    sides = [[one.text for one in examples]]
    if hold_pairs(examples):
        sides.append([one.text_b or "" for one in examples])
    places: dict[str, int] = {}
    for side in sides:
        for text in side:
            places.setdefault(text, len(places))
    parts = []
    with bar("reading texts", len(places)) as shown:
        for vectors in encoder.stream([*places], normalize=True):
            parts.append(vectors)
            shown.update(sum(map(len, parts)))
    found = np.concatenate(parts)
    return [found[[places[text] for text in side]] for side in sides]


def head_features(sides: Sequence[Vectors]) -> Vectors:
    """Features for a linear head: the vectors of single texts, or the `pair_features` of pairs."""
    return sides[0] if len(sides) == 1 else pair_features(sides[0], sides[1])
