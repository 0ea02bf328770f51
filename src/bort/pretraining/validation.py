"""Validation of a model in pre-training on held-out text: at masked positions, and against a teacher's embeddings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bort.data.corpus.corpus import Tokens, unigram_frequencies
from bort.data.corpus.rows import PackedRows
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.objective import embedding_distance
from bort.pretraining.taught_rows import Batch, Collator, TaughtRows

_PACKED = Collator(0)  # packed rows have the same length, so nothing is padded


@dataclass(frozen=True)
class MlmScore:
    """Mean cross-entropy in nats and accuracy over the masked positions."""

    loss: float
    accuracy: float
    positions: int


@dataclass(frozen=True)
class Validation:
    """The held-out rows of a run.

    Args:
        masked: Rows for the masked LM, or None if it is not trained.
        taught: Rows with a teacher's embeddings, or None.
        collator: Makes batches of the latter.
        batch_size: Rows per batch.
        bf16: Whether to compute in bf16.
    """

    masked: PackedRows | None
    taught: TaughtRows | None
    collator: Collator
    batch_size: int
    bf16: bool

    def score(self, model: Any) -> dict[str, float]:
        """Score a model: `loss` (nats), `accuracy` and `positions` at masked positions; `distance`, the mean of
        1 - cosine between the student's projected vectors and the teacher's, averaged over the poolings.

        The model stays in its training or evaluation mode; the random state does not change.
        """
        scores: dict[str, float] = {}
        if self.masked is not None:
            score = evaluate_mlm(model, self.masked, batch_size=self.batch_size, bf16=self.bf16)
            scores |= {"loss": score.loss, "accuracy": score.accuracy, "positions": score.positions}
        if self.taught is not None:
            scores["distance"] = self._distance(model, self.taught)
        return scores

    def _distance(self, model: Any, rows: TaughtRows) -> float:
        total = 0.0
        with _evaluating(model, self.bf16) as device:
            for batch in _batches(rows, self.batch_size, self.collator, device):
                inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
                pooled, theirs = model(**inputs).pooled.float(), batch["pooled"]
                total += len(theirs) * sum(float(embedding_distance(ours, theirs)[0]) for ours in pooled) / len(pooled)
        return total / len(rows)


def evaluate_mlm(model: BortForMaskedLM, rows: PackedRows, *, batch_size: int = 32, bf16: bool = False) -> MlmScore:
    """Score a model on all rows, with the masks of the rows' seed.

    The model stays in its training or evaluation mode; the random state does not change.
    """
    loss = right = positions = 0.0
    with _evaluating(model, bf16) as device:
        for batch in _batches(rows, batch_size, _PACKED, device):
            logits: Tensor = model(input_ids=batch["input_ids"], labels=batch["labels"]).logits.float()
            targets = batch["labels"][batch["labels"] != IGNORED]
            loss += float(functional.cross_entropy(logits, targets, reduction="sum"))
            right += int((logits.argmax(-1) == targets).sum())
            positions += len(targets)
    return MlmScore(loss / positions, right / positions, int(positions))


def unigram_score(train: Tokens, rows: PackedRows, vocab_size: int) -> MlmScore:
    """The score of a unigram model, which predicts the token frequencies of the training part.

    Args:
        train: Ids of the training part. *Shape:* (tokens,).
        rows: The rows to score on.
        vocab_size: Size of the vocabulary.
    """
    frequencies = unigram_frequencies(train, vocab_size)
    log_p = np.log(frequencies)
    labels = np.concatenate([rows[i]["labels"] for i in range(len(rows))])
    targets = labels[labels != IGNORED]
    return MlmScore(float(-log_p[targets].mean()), float((targets == frequencies.argmax()).mean()), len(targets))


@contextlib.contextmanager
def _evaluating(model: Any, bf16: bool) -> Iterator[torch.device]:
    """Switch dropout and gradients off, and yield the device of the model."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            yield device
    finally:
        model.train(training)


def _batches(rows: PackedRows | TaughtRows, size: int, collator: Collator, device: torch.device) -> Iterator[Batch]:
    for start in range(0, len(rows), size):
        batch = collator([rows[number] for number in range(start, min(start + size, len(rows)))])
        yield {name: tensor.to(device) for name, tensor in batch.items()}
