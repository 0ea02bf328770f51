"""Training rows: numbered, ordered by epoch and masked, each a pure function of the seed and its index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.corpus import Tokens
from bort.data.corpus.masking import Masker
from bort.data.corpus.shuffle import Order, order
from bort.errors import BortError

Row = dict[str, Any]


@dataclass(frozen=True)
class TrainingRows(ABC):
    """Rows `<s> tokens </s>` cut from a corpus, with an index that counts on from epoch to epoch.

    Row `i` is a pure function of the seed and `i`: epoch `i // rows_per_epoch` has its own order, and masks
    are drawn from (seed, i). So a resumed run, or one with more processes, sees the same data at the same step.

    With `distinct`, only that many rows are used, sampled at random from the corpus, so that a teacher's output for a
    row can be cached and reused. For masked rows this needs `fixed_masks`, which masks a row the same way every time.

    Args:
        tokens: Token ids of the corpus. *Shape:* (tokens,).
        masker: Chooses the tokens to mask; with None, rows are unmasked and have no labels.
        sequence_length: Maximum tokens per row, including the two special ones.
        bos_id: Id of `<s>`.
        eos_id: Id of `</s>`.
        length: Total number of rows, over all epochs.
        seed: Random seed of the order and the masks.
        distinct: Number of distinct rows, or None for all rows of the corpus.
        fixed_masks: Draw the masks from (seed, number of the row) instead.
    """

    tokens: Tokens
    masker: Masker | None
    sequence_length: int
    bos_id: int
    eos_id: int
    length: int
    seed: int = 0
    distinct: int | None = None
    fixed_masks: bool = False

    def __post_init__(self) -> None:
        if self.available < 1:
            raise BortError(f"the corpus {self.too_little}", value=len(self.tokens))
        if self.distinct is not None and not 1 <= self.distinct <= self.available:
            rule = f"must be at least 1 and at most the {self.available} rows of the corpus"
            raise BortError(rule, setting="distinct_rows", value=self.distinct)

    @property
    @abstractmethod
    def available(self) -> int:
        """Number of rows in the corpus."""

    @property
    @abstractmethod
    def too_little(self) -> str:
        """End of the error message for a corpus without a single row."""

    @abstractmethod
    def span(self, place: int) -> tuple[int, int]:
        """Return the token span (end exclusive) of the corpus row at a position."""

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, in order of row number, without the special ones. *Shape:* (rows_per_epoch,)."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """How rows are cut, in one word, for cache keys."""

    @property
    def key(self) -> dict[str, Any]:
        """Settings that determine the row of each number, apart from the corpus."""
        masks = None if self.masker is None or not self.fixed_masks else self.masker.probability
        return {"cut": self.kind, "sequence_length": self.sequence_length, "seed": self.seed, "masks": masks}

    @property
    def rows_per_epoch(self) -> int:
        """Number of rows per epoch."""
        return self.available if self.distinct is None else self.distinct

    def limited(self, distinct: int | None, *, fixed_masks: bool = False) -> TrainingRows:
        """Return a copy with other values of `distinct` and `fixed_masks`; see the class."""
        return replace(self, distinct=distinct, fixed_masks=fixed_masks)

    def unmasked(self) -> TrainingRows:
        """Return a copy whose rows are unmasked."""
        return replace(self, masker=None)

    def tokens_of(self, count: int) -> int:
        """Count the tokens of the first `count` rows, including special ones: full epochs, then part of the last."""
        epochs, rest = divmod(count, self.rows_per_epoch)
        numbers = _epoch_order(self, epochs)[:rest]
        return epochs * int(self.lengths.sum()) + int(self.lengths[numbers].sum()) + 2 * count

    def order(self, epoch: int) -> Order:
        """Return the row numbers of an epoch, in order. *Shape:* (rows_per_epoch,)."""
        return order(self.seed, epoch, self.rows_per_epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Row:
        """Return a row by index. *Shapes:* `input_ids` (seq,), with a masker `labels` (seq,); `number` is an int."""
        if not 0 <= index < self.length:
            raise IndexError(f"row {index} of {self.length}")
        epoch, place = divmod(index, self.rows_per_epoch)
        number = int(_epoch_order(self, epoch)[place])
        return self._masked(number, number if self.fixed_masks else index)

    def numbered(self, number: int) -> Row:
        """Return the row with a number, masked as with `fixed_masks`."""
        return self._masked(number, number)

    def _masked(self, number: int, draw: int) -> Row:
        row = self.row(number)
        if self.masker is None:
            return {"input_ids": row, "number": number}
        inputs, labels = self.masker(row, np.random.default_rng([self.seed, 1, draw]))
        return {"input_ids": inputs, "labels": labels, "number": number}

    def row(self, number: int) -> NDArray[np.int64]:
        """Return the unmasked row with a number. *Shape:* (seq,)."""
        start, stop = self.span(int(self.places[number]) if self.distinct is not None else number)
        row = np.empty(stop - start + 2, dtype=np.int64)
        row[0], row[-1] = self.bos_id, self.eos_id
        row[1:-1] = self.tokens[start:stop]
        return row

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Position in the corpus of each row, in order of row number. *Shape:* (rows_per_epoch,)."""
        if self.distinct is None:
            return np.arange(self.available)
        return order(self.seed, 0, self.available)[: self.distinct]

    @cached_property
    def _orders(self) -> dict[int, Order]:
        return {}


def _epoch_order(rows: TrainingRows, epoch: int) -> Order:
    """Return the order of an epoch; the last two are cached, since validation may run between two rows."""
    known = rows._orders
    if epoch not in known:
        if len(known) > 1:
            known.pop(next(iter(known)))
        known[epoch] = rows.order(epoch)
    return known[epoch]


class PackedRows(TrainingRows):
    """Rows of exactly `sequence_length` tokens; one may hold the end of a document and the start of the next."""

    kind = "packed"

    @property
    def available(self) -> int:
        """Number of whole rows in the corpus."""
        return len(self.tokens) // (self.sequence_length - 2)

    @property
    def too_little(self) -> str:
        """End of the error message for a corpus without a single row."""
        return f"has too little text for one row of {self.sequence_length} tokens"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The same for every row. *Shape:* (rows_per_epoch,)."""
        return np.broadcast_to(np.int64(self.sequence_length - 2), (self.rows_per_epoch,))

    def tokens_of(self, count: int) -> int:
        """Count the tokens of the first `count` rows, including special ones."""
        return count * self.sequence_length

    def span(self, place: int) -> tuple[int, int]:
        """Return the token span (end exclusive) of a row; consecutive rows are consecutive in the corpus."""
        width = self.sequence_length - 2
        return place * width, (place + 1) * width
