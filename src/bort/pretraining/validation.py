"""How a model in pre-training does on held-out text: at masked positions, and beside a teacher's embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bort.data.packing import PackedRows
from bort.pretraining.objective import Collator, TaughtRows
from bort.training.losses import embedding_distance
from bort.training.mlm_eval import evaluate_mlm


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
