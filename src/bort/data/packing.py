"""Rows of equal length cut from the running text: no padding, whatever the documents' lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.rows import TrainingRows


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
        """All alike. *Shape:* (rows_per_epoch,)."""
        return np.broadcast_to(np.int64(self.sequence_length - 2), (self.rows_per_epoch,))

    def tokens_of(self, count: int) -> int:
        """Tokens of the first rows, special ones counted."""
        return count * self.sequence_length

    def span(self, place: int) -> tuple[int, int]:
        """Neighbouring rows are neighbours in the corpus."""
        width = self.sequence_length - 2
        return place * width, (place + 1) * width
