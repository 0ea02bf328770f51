"""How a model in pre-training does on held-out text: at masked positions, and beside a teacher's embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bort.data.corpus.rows import PackedRows, Tokens
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.objective import Collator, TaughtRows, embedding_distance

_COUNTED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class MlmScore:
    """Mean cross-entropy in nats and share of right guesses over the masked positions."""

    loss: float
    accuracy: float
    positions: int


@torch.no_grad()
def evaluate_mlm(model: BortForMaskedLM, rows: PackedRows, *, batch_size: int = 32, bf16: bool = False) -> MlmScore:
    """Score a model on every row, with the masks that the rows' seed gives.

    The model is left in the mode it came in; no random state is touched.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    loss = right = positions = 0.0
    for start in range(0, len(rows), batch_size):
        batch = collate([rows[i] for i in range(start, min(start + batch_size, len(rows)))])
        labels = batch["labels"].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(input_ids=batch["input_ids"].to(device), labels=labels).logits.float()
        targets = labels[labels != IGNORED]
        loss += float(functional.cross_entropy(logits, targets, reduction="sum"))
        right += int((logits.argmax(-1) == targets).sum())
        positions += len(targets)
    model.train(training)
    return MlmScore(loss / positions, right / positions, int(positions))


def unigram_score(train: Tokens, rows: PackedRows, vocab_size: int) -> MlmScore:
    """What a model knows that only counts words in the training part.

    Args:
        train: Ids of the training part. *Shape:* (tokens,).
        rows: The rows to score on.
        vocab_size: Number of ids.
    """
    frequencies = unigram_frequencies(train, vocab_size)
    log_p = np.log(frequencies)
    labels = np.concatenate([rows[i]["labels"] for i in range(len(rows))])
    targets = labels[labels != IGNORED]
    return MlmScore(float(-log_p[targets].mean()), float((targets == frequencies.argmax()).mean()), len(targets))


def unigram_frequencies(tokens: Tokens, vocab_size: int) -> NDArray[np.float64]:
    """Share of each id, one added to each count. *Shape:* (tokens,) -> (vocab,)."""
    counts = np.ones(vocab_size, np.int64)
    for start in range(0, len(tokens), _COUNTED_AT_ONCE):  # counting takes 8 bytes a token
        counts += np.bincount(tokens[start : start + _COUNTED_AT_ONCE], minlength=vocab_size)[:vocab_size]
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def collate(rows: list[dict[str, NDArray[np.int64]]]) -> dict[str, torch.Tensor]:
    """Stack rows of equal length. *Shapes:* `input_ids` and `labels` (batch, seq)."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in ("input_ids", "labels")}


@dataclass(frozen=True)
class Validation:
    """The held-out rows of a run.

    Args:
        masked: Rows for the masked LM, or None where it is not trained.
        taught: Rows with a teacher's embeddings, or None.
        collator: Makes batches of the latter.
        batch_size: Rows a batch.
        bf16: Compute in it.
    """

    masked: PackedRows | None
    taught: TaughtRows | None
    collator: Collator
    batch_size: int
    bf16: bool

    def score(self, model: Any) -> dict[str, float]:
        """`loss` (nats), `accuracy` and `positions` at masked positions; `distance`, the mean of 1 - cosine between
        the student's projected vectors and the teacher's, over its ways of pooling.

        The model is left in the mode it came in; no random state is touched.
        """
        scores: dict[str, float] = {}
        if self.masked is not None:
            score = evaluate_mlm(model, self.masked, batch_size=self.batch_size, bf16=self.bf16)
            scores |= {"loss": score.loss, "accuracy": score.accuracy, "positions": score.positions}
        if self.taught is not None:
            scores["distance"] = self._distance(model, self.taught)
        return scores

    @torch.no_grad()
    def _distance(self, model: Any, rows: TaughtRows) -> float:
        training, device = model.training, next(model.parameters()).device
        model.eval()
        total = 0.0
        for start in range(0, len(rows), self.batch_size):
            batch = self.collator([rows[n] for n in range(start, min(start + self.batch_size, len(rows)))])
            inputs: dict[str, Any] = {
                name: batch[name].to(device) for name in ("input_ids", "attention_mask") if name in batch
            }
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                pooled = model(**inputs).pooled.float()
            theirs = batch["pooled"].to(device)
            total += len(theirs) * sum(float(embedding_distance(ours, theirs)[0]) for ours in pooled) / len(pooled)
        model.train(training)
        return total / len(rows)
