"""Rows with their teachers' outputs, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bort.data.corpus.rows import Row, TrainingRows
from bort.model.config import IGNORED
from bort.pretraining.distill.cache import TeacherCache
from bort.pretraining.distill.targets import pad

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class TaughtRows:
    """Training rows with their teachers' outputs.

    Args:
        rows: The rows.
        caches: Teachers' outputs by row number; their fields are added to the row's.
    """

    rows: TrainingRows
    caches: tuple[TeacherCache, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        for cache in self.caches:
            row = row | cache.read(row["number"])
        return row


@dataclass(frozen=True)
class Collator:
    """Makes a batch of rows: pads the student's inputs and labels, and concatenates the teachers' outputs.

    Args:
        pad_id: Id of the padding token.
    """

    pad_id: int

    def __call__(self, rows: list[Row]) -> Batch:
        """*Shapes:* `input_ids`, `labels`, `attention_mask` (batch, seq); teacher outputs (items, ...), row by row."""
        batch: Batch = {}
        batch["input_ids"], mask = pad([row["input_ids"] for row in rows], self.pad_id)
        if mask is not None:
            batch["attention_mask"] = mask
        if "labels" in rows[0]:
            batch["labels"], _ = pad([row["labels"] for row in rows], IGNORED)
        for name in rows[0].keys() - {"input_ids", "labels", "number"}:
            joined = np.concatenate([row[name] for row in rows])
            batch[name] = torch.from_numpy(joined.astype(np.int64) if joined.dtype.kind in "iu" else joined)
        if any(name.startswith("layer_") for name in rows[0]):
            width, inner = batch["input_ids"].shape[1], [len(row["input_ids"]) - 2 for row in rows]
            places = [place * width + 1 + np.arange(count) for place, count in enumerate(inner)]
            batch["ordinary"] = torch.from_numpy(np.concatenate(places))
        return batch
