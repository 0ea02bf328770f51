"""Rows of equal length cut from a corpus, masked anew each epoch, in an order that depends on the seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.masking import Masker
from bort.errors import BortError

Row = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class PackedRows:
    """Training rows `<s> tokens </s>` without padding, numbered on from epoch to epoch.

    Row `i` is a pure function of the seed and `i`: epoch `i // rows_per_epoch` shuffles the corpus's rows, and masks
    are drawn from (seed, i). So a resumed run, or one with more processes, sees the same data at the same step.

    Args:
        tokens: The corpus's ids. *Shape:* (tokens,).
        masker: Chooses what is masked.
        sequence_length: Tokens a row, the two special ones among them.
        bos_id: Id of `<s>`.
        eos_id: Id of `</s>`.
        length: Rows in all, over every epoch.
        seed: Source of the order and the masks.
    """

    tokens: NDArray[np.unsignedinteger[Any]]
    masker: Masker
    sequence_length: int
    bos_id: int
    eos_id: int
    length: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows_per_epoch < 1:
            rule = f"has too little text for one row of {self.sequence_length} tokens"
            raise BortError(f"the corpus {rule}", value=len(self.tokens))

    @property
    def rows_per_epoch(self) -> int:
        """Whole rows in one pass over the corpus."""
        return len(self.tokens) // (self.sequence_length - 2)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Row:
        """The row. *Shapes:* `input_ids` (seq,), `labels` (seq,)."""
        if not 0 <= index < self.length:
            raise IndexError(f"row {index} of {self.length}")
        epoch, place = divmod(index, self.rows_per_epoch)
        number = _order(self.seed, epoch, self.rows_per_epoch)[place]
        inputs, labels = self.masker(self.row(int(number)), np.random.default_rng([self.seed, 1, index]))
        return {"input_ids": inputs, "labels": labels}

    def row(self, number: int) -> NDArray[np.int64]:
        """The unmasked row at a place in the corpus. *Shape:* (seq,)."""
        width = self.sequence_length - 2
        row = np.empty(self.sequence_length, dtype=np.int64)
        row[0], row[-1] = self.bos_id, self.eos_id
        row[1:-1] = self.tokens[number * width : (number + 1) * width]
        return row


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(rows)
