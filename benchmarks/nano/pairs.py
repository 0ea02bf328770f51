"""Joined pairs for training: true pairs, random pairs, near misses, and texts with an edited part of themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOT_ASKED = -100


class Edit(IntEnum):
    """What was done to a text."""

    SHORTENED = 0
    ALTERED = 1
    REORDERED = 2


@dataclass(frozen=True)
class Words:
    """Properties of the vocabulary's entries. *Shapes:* (vocab,) each.

    Args:
        continues: The entry continues a word (`##ing`).
        content: The entry is a word so rare that replacing it changes the meaning.
        idf: Minus the logarithm of the entry's share of the tokens.
    """

    continues: NDArray[np.bool_]
    content: NDArray[np.bool_]
    idf: NDArray[np.float32]

    @classmethod
    def of(cls, tokens: list[str], ids: NDArray[np.uint16]) -> Words:
        counts = np.bincount(ids, minlength=len(tokens))
        share = (counts + 1) / (counts.sum() + len(tokens))
        continues = np.array([token.startswith("##") for token in tokens])
        wordy = np.array([token.isalpha() and len(token) > 2 for token in tokens])
        common = np.zeros(len(tokens), dtype=bool)
        common[np.argsort(-counts)[:150]] = True
        return cls(continues, wordy & ~common, -np.log(share).astype(np.float32))

    def split(self, row: list[int]) -> list[list[int]]:
        """The entries of each word."""
        words: list[list[int]] = []
        for number in row:
            if words and self.continues[number]:
                words[-1].append(number)
            else:
                words.append([number])
        return words

    def edit(self, row: list[int], donor: list[int], kind: Edit, rng: random.Random) -> tuple[list[int], Edit]:
        """A part of a text, perhaps with a word of another text in it, or with its halves swapped.

        Returns:
            The edited text, and what was done to it (only shortened if the texts do not allow more).
        """
        words = self.split(row)
        length = max(3, round(len(words) * rng.uniform(0.4, 1.0)))
        start = rng.randint(0, max(0, len(words) - length))
        words = words[start : start + length]
        if len(words) > 5:
            words = [word for word in words if rng.random() > 0.1] or words
        done = Edit.SHORTENED
        if kind is Edit.ALTERED:
            known = set(row)
            places = [place for place, word in enumerate(words) if self.content[word[0]]]
            others = [word for word in self.split(donor) if self.content[word[0]] and word[0] not in known]
            for place in rng.sample(places, min(len(places), len(others), rng.randint(1, 2))):
                words[place], done = rng.choice(others), Edit.ALTERED
        elif kind is Edit.REORDERED and len(words) > 4:
            cut = rng.randint(2, len(words) - 2)
            words, done = words[cut:] + words[:cut], Edit.REORDERED
        return [number for word in words for number in word], done


@dataclass(frozen=True)
class Joined:
    """Pairs of texts in a batch, as indices into it.

    Args:
        first, second: Indices of the two texts. *Shape:* (pairs,).
        related: 1 for a true pair, 0 for a made-up one, `NOT_ASKED` for an edit. *Shape:* (pairs,).
        edit: Kind of edit, or `NOT_ASKED`. *Shape:* (pairs,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    related: NDArray[np.int64]
    edit: NDArray[np.int64]


def join(vectors: Tensor, true: int, edits: list[Edit], rng: random.Random) -> Joined:
    """Choose the pairs that the student reads.

    The texts are `true` firsts, `true` seconds, then texts and their edits, alternating. Random pairs (a quarter as
    many) and near misses (at most half as many) are added. A near miss is the one of all other pairs' seconds that the
    teacher finds nearest to both texts, unless it could just as well be the true one.

    Args:
        vectors: The teacher's vectors, of length 1. *Shape:* (texts, H).
        true: Number of true pairs.
        edits: Kind of each edit.
        rng: Random generator.
    """
    a, b = vectors[:true], vectors[true : 2 * true]
    near = b @ b.T
    score = (a @ b.T + near).masked_fill(near > 0.85, -9.0)
    nearest = score.argmax(1).tolist()
    rows: list[tuple[int, int, int, int]] = [(i, true + i, 1, NOT_ASKED) for i in range(true)]
    for i in rng.sample(range(true), true // 4):
        rows.append((i, true + (i + rng.randint(1, true - 1)) % true, 0, NOT_ASKED))
    for i in rng.sample(range(true), true // 2):
        if nearest[i] != i:
            rows.append((i, true + nearest[i], 0, NOT_ASKED))
    rows += [(2 * true + 2 * i, 2 * true + 2 * i + 1, NOT_ASKED, int(kind)) for i, kind in enumerate(edits)]
    rows = [(q, p, related, edit) if rng.random() < 0.3 else (p, q, related, edit) for p, q, related, edit in rows]
    first, second, related, edit = np.array(rows, dtype=np.int64).T
    return Joined(first, second, related, edit)


@dataclass(frozen=True)
class Laid:
    """Joined pairs as BERT reads them.

    Args:
        ids, types, mask: *Shape:* (pairs, seq).
        source: Place of each token in the flattened (texts x length) states of the texts read alone; 0 if there is none
            (the first token, padding). *Shape:* (pairs, seq).
        side: 1 and 2 for the words of the first and second text, 0 for special tokens and padding.
            *Shape:* (pairs, seq).
    """

    ids: Tensor
    types: Tensor
    mask: Tensor
    source: Tensor
    side: Tensor


def lay(texts: list[list[int]], joined: Joined, length: int, cls: int, sep: int) -> Laid:
    """`[CLS] a [SEP] b [SEP]` with token types 0 and 1.

    Args:
        texts: Ids of each text, without special tokens.
        joined: Which texts form pairs.
        length: Tokens per text in the states of texts read alone, including special tokens and padding.
        cls: Id of `[CLS]`.
        sep: Id of `[SEP]`.
    """
    sizes = [len(texts[p]) + len(texts[q]) + 3 for p, q in zip(joined.first, joined.second, strict=True)]
    shape = (len(sizes), max(sizes))
    ids, types, mask, source, side = (np.zeros(shape, dtype=np.int64) for _ in range(5))
    for row, (p, q) in enumerate(zip(joined.first.tolist(), joined.second.tolist(), strict=True)):
        a, b = texts[p], texts[q]
        middle, end = len(a) + 2, sizes[row]
        ids[row, :end] = [cls, *a, sep, *b, sep]
        types[row, middle:end] = 1
        mask[row, :end] = 1
        source[row, 1:middle] = p * length + np.arange(1, middle)
        source[row, middle:end] = q * length + np.arange(1, len(b) + 2)
        side[row, 1 : middle - 1], side[row, middle : end - 1] = 1, 2
    return Laid(*map(torch.from_numpy, (ids, types, mask, source, side)))


def lexical(texts: list[list[int]], joined: Joined, idf: NDArray[np.float32]) -> Tensor:
    """The share of each text, weighted by rarity, that also occurs in the other. *Shape:* (pairs, 2)."""
    shares = []
    for p, q in zip(joined.first.tolist(), joined.second.tolist(), strict=True):
        for inner, outer in ((texts[p], texts[q]), (texts[q], texts[p])):
            weights, known = idf[inner], np.isin(inner, outer)
            shares.append(float(weights[known].sum() / max(weights.sum(), 1e-6)))
    return torch.tensor(shares).view(-1, 2)
