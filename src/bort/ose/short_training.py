"""The error of an architecture without training it fully: what s steps make of it (arXiv 2010.10499).

Every candidate sees the same batches in the same order, and is drawn to the same outputs of the maximum point, which
are asked for once. Its error is the cross-entropy with these outputs over the masked positions of held-out rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig

from bort.model.devices import best_device, use_bf16
from bort.model.mlm_loss import SoftTargets
from bort.model.modelling import BortForMaskedLM, set_dropout
from bort.ose.arguments import ExtractArguments
from bort.pretraining.distill.targets import weights_of
from bort.pretraining.init_weights import start_from_sinusoids
from bort.pretraining.taught_rows import Batch, Collator, TaughtRows
from bort.training.schedule import warmup_then_linear

TRAINING_TOP, TRAINING_TAIL = 64, 16
HELD_OUT_TOP, HELD_OUT_TAIL = 4096, 64
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class TrainedEncoder:
    """What a short training came to.

    Args:
        model: The candidate.
        cross_entropy: With the teacher's outputs on held-out rows, in nats; NaN where the training diverged.
        steps: How many were done.
        seconds: That they took.
    """

    model: BortForMaskedLM
    cross_entropy: float
    steps: int
    seconds: float


def new_model(config: BertConfig, log_frequencies: NDArray[np.float64], seed: int) -> BortForMaskedLM:
    """Random weights, but for sinusoids as positions and word counts as the head's bias, as `bort pretrain` starts.

    Args:
        config: The shape.
        log_frequencies: Of each token. *Shape:* (vocab,).
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    model = BortForMaskedLM(config)
    start_from_sinusoids(model)
    with torch.no_grad():
        model.cls.predictions.bias.copy_(torch.from_numpy(log_frequencies))
    return model


class Batches(Sequence[Batch]):
    """Rows in batches, read when they are asked for.

    Args:
        rows: With the teacher's outputs.
        size: Rows of a batch; the last may have fewer.
        pad_id: Padding.
    """

    def __init__(self, rows: TaughtRows, size: int, pad_id: int) -> None:
        self.rows, self.size, self.collator = rows, size, Collator(pad_id)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Batch]: ...
    def __getitem__(self, place: int | slice) -> Batch | Sequence[Batch]:
        """The rows of a place, from 0."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start = place * self.size
        return self.collator([self.rows[number] for number in range(start, min(start + self.size, len(self.rows)))])


class Surrogate:
    """Trains a shape for a moment, on the best device of the machine where it is called.

    Args:
        arguments: Of the run.
        training: A batch for each step, with the teacher's outputs.
        held_out: Batches to measure the error on, with the teacher's outputs.
        log_frequencies: Of each token. *Shape:* (vocab,).
    """

    def __init__(
        self,
        arguments: ExtractArguments,
        training: Sequence[Batch],
        held_out: Sequence[Batch],
        log_frequencies: NDArray[np.float64],
    ) -> None:
        self.arguments, self.training, self.held_out = arguments, training, held_out
        self.log_frequencies = log_frequencies

    def in_memory(self) -> Surrogate:
        """The same without files: all batches are read now."""
        return Surrogate(self.arguments, list(self.training), list(self.held_out), self.log_frequencies)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return best_device()

    @property
    def bf16(self) -> bool:
        """Whether in bf16."""
        return use_bf16(self.arguments.precision)

    def train(
        self,
        config: BertConfig,
        learning_rate: float,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
    ) -> TrainedEncoder:
        """Train a shape from the same seed as any other, and measure it.

        Args:
            config: The shape.
            learning_rate: Peak.
            on_step: Told of each step and its loss, KL(teacher || student) in nats.
        """
        arguments, started = self.arguments, time.monotonic()
        model = new_model(config, self.log_frequencies, arguments.seed).to(self.device).train()
        set_dropout(model, arguments.dropout)
        bound = arguments.clip_weights
        _clip(model, bound)
        optimizer = self._optimizer(model, learning_rate)
        steps = arguments.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_then_linear((step + 1) / (steps + 1), arguments.warmup)
        )
        for step in range(steps):
            loss = self._loss(model, self._moved(self.training[step]))
            value = float(loss.detach())
            if not np.isfinite(value):
                return TrainedEncoder(model, float("nan"), step, time.monotonic() - started)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            _clip(model, bound)
            on_step(step + 1, value)
        set_dropout(model, 0.1)  # as a saved model has it
        return TrainedEncoder(model, self.cross_entropy(model), steps, time.monotonic() - started)

    def _optimizer(self, model: BortForMaskedLM, learning_rate: float) -> torch.optim.Optimizer:
        if self.arguments.optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), lr=learning_rate)
        matrices = [weights for weights in model.parameters() if weights.ndim > 1]
        others = [weights for weights in model.parameters() if weights.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, fused=True)

    def _moved(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _loss(self, model: BortForMaskedLM, batch: Batch) -> Tensor:
        """KL(teacher || student) at the masked positions: its gradient is that of the cross-entropy."""
        log_p = batch["log_p"].float()
        soft = SoftTargets(
            ids=batch["ids"],
            log_p=log_p,
            weights=weights_of(log_p, TRAINING_TAIL),
            temperature=1.0,
            mlm_weight=0.0,
            kd_weight=1.0,
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss: Tensor = model(
                input_ids=batch["input_ids"],
                attention_mask=batch.get("attention_mask"),
                labels=batch["labels"],
                soft_targets=soft,
                loss_only=True,
            ).loss
        return loss

    def untrained(self, config: BertConfig) -> float:
        """The cross-entropy of a shape before its training."""
        return self.cross_entropy(new_model(config, self.log_frequencies, self.arguments.seed).to(self.device))

    @torch.no_grad()
    def cross_entropy(self, model: BortForMaskedLM) -> float:
        """Of a model with the teacher's outputs on the held-out rows, in nats a masked position."""
        model.eval()

        def of_model(batch: Batch) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                logits = model(input_ids=batch["input_ids"], labels=batch["labels"]).logits
            surprise: Tensor = -logits.float().log_softmax(-1).gather(-1, batch["ids"])
            return surprise

        return self._mean(of_model)

    @torch.no_grad()
    def entropy(self) -> float:
        """Of the teacher's outputs: the cross-entropy of a perfect student."""
        return self._mean(lambda batch: -batch["log_p"].float())

    def _mean(self, surprise: Callable[[Batch], Tensor]) -> float:
        """The teacher's mean of a figure of each of its tokens, over all held-out masked positions."""
        total, positions = 0.0, 0
        for batch in map(self._moved, self.held_out):
            weights = weights_of(batch["log_p"].float(), held_out_tail(self.log_frequencies.size))
            total += float((weights * surprise(batch)).double().sum())
            positions += len(weights)
        return total / positions


def held_out_tail(vocab_size: int) -> int:
    """Draws that stand for the tokens beyond the most probable ones; none where those are all."""
    return HELD_OUT_TAIL if vocab_size > HELD_OUT_TOP else 0


@torch.no_grad()
def _clip(model: Any, bound: float | None) -> None:
    if bound is not None:
        for weights in model.parameters():
            weights.clamp_(-bound, bound)
