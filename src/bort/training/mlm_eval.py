"""How well a masked LM does on held-out text, and what one learns it against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bort.data.corpus.rows import Tokens
from bort.data.packing import PackedRows
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM

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
