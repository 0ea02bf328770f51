"""Rows of equal length cut from the running text: no padding, whatever the documents' lengths."""

from __future__ import annotations

from bort.data.training_rows import TrainingRows


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

    def span(self, place: int) -> tuple[int, int]:
        """Neighbouring rows are neighbours in the corpus."""
        width = self.sequence_length - 2
        return place * width, (place + 1) * width
