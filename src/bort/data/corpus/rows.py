"""What all training rows share: numbers, epochs, masks, and that each is a pure function of the seed and its index."""

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
    """Rows `<s> tokens </s>` cut from a corpus, numbered on from epoch to epoch.

    Row `i` is a pure function of the seed and `i`: epoch `i // rows_per_epoch` has an order of its own, and masks
    are drawn from (seed, i). So a resumed run, or one with more processes, sees the same data at the same step.

    With `distinct` there are only so many rows, a random choice of the corpus's; what a teacher said of one once can
    be used again. What it said of a masked row can where `fixed_masks` masks a row the same way whenever it comes.

    Args:
        tokens: The corpus's ids. *Shape:* (tokens,).
        masker: Chooses what is masked; None leaves the rows as they are, without labels.
        sequence_length: Tokens of the longest row, the two special ones among them.
        bos_id: Id of `<s>`.
        eos_id: Id of `</s>`.
        length: Rows in all, over every epoch.
        seed: Source of the order and the masks.
        distinct: Number of different rows, or None for all that the corpus gives.
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
        """Rows that the corpus gives."""

    @property
    @abstractmethod
    def too_little(self) -> str:
        """What a corpus without any row lacks."""

    @abstractmethod
    def span(self, place: int) -> tuple[int, int]:
        """First token of the corpus's row at a place, and the one after its last."""

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the row of each number, without the special ones. *Shape:* (rows_per_epoch,)."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """How rows are cut, in one word, for the keys of caches."""

    @property
    def key(self) -> dict[str, Any]:
        """What the rows of each number depend on, besides the corpus."""
        masks = None if self.masker is None or not self.fixed_masks else self.masker.probability
        return {"cut": self.kind, "sequence_length": self.sequence_length, "seed": self.seed, "masks": masks}

    @property
    def rows_per_epoch(self) -> int:
        """Rows in one pass."""
        return self.available if self.distinct is None else self.distinct

    def limited(self, distinct: int | None, *, fixed_masks: bool = False) -> TrainingRows:
        """The same rows, but so many different ones; see `distinct` and `fixed_masks` of the class."""
        return replace(self, distinct=distinct, fixed_masks=fixed_masks)

    def tokens_of(self, count: int) -> int:
        """Tokens of the first rows, special ones counted: each epoch's, then those of the last one's beginning."""
        epochs, rest = divmod(count, self.rows_per_epoch)
        numbers = _epoch_order(self, epochs)[:rest]
        return epochs * int(self.lengths.sum()) + int(self.lengths[numbers].sum()) + 2 * count

    def order(self, epoch: int) -> Order:
        """Numbers of the rows of an epoch, in their order. *Shape:* (rows_per_epoch,)."""
        return order(self.seed, epoch, self.rows_per_epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Row:
        """The row of an index. *Shapes:* `input_ids` (seq,), with a masker `labels` (seq,); `number` is an int."""
        if not 0 <= index < self.length:
            raise IndexError(f"row {index} of {self.length}")
        epoch, place = divmod(index, self.rows_per_epoch)
        number = int(_epoch_order(self, epoch)[place])
        return self._masked(number, number if self.fixed_masks else index)

    def numbered(self, number: int) -> Row:
        """The row of a number, masked as `fixed_masks` has it wherever it comes."""
        return self._masked(number, number)

    def _masked(self, number: int, draw: int) -> Row:
        row = self.row(number)
        if self.masker is None:
            return {"input_ids": row, "number": number}
        inputs, labels = self.masker(row, np.random.default_rng([self.seed, 1, draw]))
        return {"input_ids": inputs, "labels": labels, "number": number}

    def row(self, number: int) -> NDArray[np.int64]:
        """The unmasked row of a number. *Shape:* (seq,)."""
        start, stop = self.span(int(self.places[number]) if self.distinct is not None else number)
        row = np.empty(stop - start + 2, dtype=np.int64)
        row[0], row[-1] = self.bos_id, self.eos_id
        row[1:-1] = self.tokens[start:stop]
        return row

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where in the corpus the row of each number is. *Shape:* (rows_per_epoch,)."""
        if self.distinct is None:
            return np.arange(self.available)
        return order(self.seed, 0, self.available)[: self.distinct]

    @cached_property
    def _orders(self) -> dict[int, Order]:
        return {}


def _epoch_order(rows: TrainingRows, epoch: int) -> Order:
    """The order of an epoch; the last two are kept, since a validation may come between two rows."""
    known = rows._orders
    if epoch not in known:
        if len(known) > 1:
            known.pop(next(iter(known)))
        known[epoch] = rows.order(epoch)
    return known[epoch]


class PackedRows(TrainingRows):
    """Rows that are all `sequence_length` long; one may hold the end of a document and the start of the next."""

    kind = "packed"

    @property
    def available(self) -> int:
        """Whole rows in the corpus."""
        return len(self.tokens) // (self.sequence_length - 2)

    @property
    def too_little(self) -> str:
        """What a corpus without any row lacks."""
        return f"has too little text for one row of {self.sequence_length} tokens"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The same for every row. *Shape:* (rows_per_epoch,)."""
        return np.broadcast_to(np.int64(self.sequence_length - 2), (self.rows_per_epoch,))

    def tokens_of(self, count: int) -> int:
        """Tokens of the first rows, special ones counted."""
        return count * self.sequence_length

    def span(self, place: int) -> tuple[int, int]:
        """Neighbouring rows are neighbours in the corpus."""
        width = self.sequence_length - 2
        return place * width, (place + 1) * width
