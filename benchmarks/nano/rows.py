"""Ragged rows of token ids on disk, and batches of similar length in an order that depends only on the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """*Shapes:* ids (tokens,), starts (rows + 1,)."""

    ids: NDArray[np.uint16]
    starts: NDArray[np.int64]

    @classmethod
    def open(cls, stem: str | Path) -> Rows:
        return cls(np.load(f"{stem}.ids.npy", mmap_mode="r"), np.load(f"{stem}.starts.npy"))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> list[int]:
        return self.ids[self.starts[row] : self.starts[row + 1]].tolist()

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


def batches(
    lengths: NDArray[np.int64], *, rows: int, tokens: int, window: int, seed: int, skip: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Row numbers of each batch, pass after pass, endlessly.

    The rows of a window are sorted by length and cut into batches of at most `rows` rows and `tokens` tokens (including
    padding), which come in random order.

    Args:
        lengths: Tokens of each row. *Shape:* (rows,).
        skip: Batches to skip at the start: those that an interrupted run has seen.
    """
    given = turn = 0
    while True:
        for start in range(0, len(lengths) - window + 1, window):
            rng = random.Random(f"{seed} {turn} {start}")
            order = start + np.argsort(lengths[start : start + window], kind="stable")
            order = order[lengths[order] > 2]
            made: list[NDArray[np.int64]] = []
            while len(order):
                taken = min(rows, len(order))
                while taken > 1 and taken * (lengths[order[taken - 1]] + 2) > tokens:
                    taken -= 1
                made.append(order[:taken])
                order = order[taken:]
            rng.shuffle(made)
            for batch in made:
                if len(batch) > 7:
                    if given >= skip:
                        yield batch
                    given += 1
        turn += 1


def padded(texts: list[list[int]], cls: int, sep: int) -> tuple[Tensor, Tensor]:
    """`[CLS] text [SEP]`, padded with 0, and the mask. *Shapes:* (texts, seq) twice."""
    longest = max(map(len, texts)) + 2
    ids = np.zeros((len(texts), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 2] = [cls, *text, sep]
        mask[row, : len(text) + 2] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
