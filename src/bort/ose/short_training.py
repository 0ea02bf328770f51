"""The error of an architecture after a short training of s steps instead of a full one (arXiv 2010.10499).

Every candidate sees the same batches in the same order, and learns the same outputs of the teacher, which are computed
once. A `Lesson` defines what is learned and how the error is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.bounds import Precision
from bort.model.devices import best_device, use_bf16
from bort.model.modelling import set_dropout
from bort.ose.space import Shape
from bort.pretraining.taught_rows import Batch, Collator, TaughtRows
from bort.training.schedule import warmup_then_linear

_LARGEST_GRADIENT = 1.0
LEAST_ERROR = 1e-6
"""ê of a student that equals its teacher; not 0, because W divides by it."""


class Lesson(Protocol):
    """What candidates learn, and how their error is measured."""

    @property
    def starts_trained(self) -> bool:
        """Whether members start from trained weights."""

    @property
    def perfect(self) -> float:
        """ê of a perfect student, above 0."""

    def start(self, shape: Shape, seed: int) -> PreTrainedModel:
        """A member before its training."""

    def batches(self, shape: Shape) -> Sequence[Batch]:
        """One batch per training step, with the teacher's outputs."""

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The loss of a batch. *Shape:* ()."""

    def error(self, model: Any, shape: Shape) -> float:
        """ê of a model on held-out data."""

    def tokenizer(self, shape: Shape) -> PreTrainedTokenizerFast:
        """The tokenizer that is saved with a member."""

    def in_memory(self) -> Lesson:
        """The same lesson with all batches in memory, so that no files are needed."""


class Batches(Sequence[Batch]):
    """Rows in batches, read on access.

    Args:
        rows: Rows with the teacher's outputs.
        size: Rows per batch; the last batch may have fewer.
        pad_id: Id of the padding token.
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
        """The batch at an index, from 0."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start = place * self.size
        return self.collator([self.rows[number] for number in range(start, min(start + self.size, len(self.rows)))])


@dataclass(frozen=True)
class Training:
    """How candidates are trained.

    Args:
        steps: Number of steps.
        warmup: Share of them in which the learning rate rises.
        optimizer: AdamW, or plain SGD.
        clip_weights: Bound on the absolute value of every weight, if any.
        dropout: Dropout during training.
        seed: Random seed of the weights. If it differs from `order_seed`, it also shuffles the batches.
        order_seed: The seed with which the batches keep their order.
    """

    steps: int
    warmup: float = 0.1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    clip_weights: float | None = None
    dropout: float = 0.0
    seed: int = 0
    order_seed: int = 0

    def again(self) -> Training:
        """The same training with another seed, to measure the noise of the error."""
        return replace(self, seed=self.seed + 1)

    def order(self) -> Sequence[int]:
        """The index of the batch at each step."""
        if self.seed == self.order_seed:
            return range(self.steps)
        return [int(place) for place in np.random.default_rng(self.seed).permutation(self.steps)]


@dataclass(frozen=True)
class TrainedEncoder:
    """The result of a short training.

    Args:
        model: The candidate.
        error: ê; NaN if the training diverged.
        steps: Number of completed steps.
        seconds: Duration.
    """

    model: PreTrainedModel
    error: float
    steps: int
    seconds: float


def train(
    lesson: Lesson,
    shape: Shape,
    training: Training,
    learning_rate: float,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> TrainedEncoder:
    """Train a shape briefly on the best device of this machine, and measure its error.

    Args:
        lesson: What it learns.
        shape: The candidate.
        training: How it is trained.
        learning_rate: Peak learning rate.
        on_step: Called with each step and its loss.
    """
    started, device = time.monotonic(), best_device()
    model = _ready(lesson.start(shape, training.seed), device).train()
    torch.manual_seed(training.seed)  # the dropout must not depend on earlier trainings; inherited weights draw nothing
    set_dropout(model, training.dropout)
    _clip(model, training.clip_weights)
    optimizer = _optimizer(model, training, learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_then_linear((step + 1) / (training.steps + 1), training.warmup)
    )
    batches = lesson.batches(shape)
    for step, place in enumerate(training.order()):
        loss = lesson.loss(model, moved(batches[place], device))
        value = float(loss.detach())
        if not np.isfinite(value):
            return TrainedEncoder(model, float("nan"), step, time.monotonic() - started)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        _clip(model, training.clip_weights)
        on_step(step + 1, value)
    set_dropout(model, 0.1)  # the dropout of saved models
    return TrainedEncoder(model, lesson.error(model, shape), training.steps, time.monotonic() - started)


def untrained_error(lesson: Lesson, shape: Shape, seed: int) -> float:
    """ê of a shape before its training."""
    return lesson.error(_ready(lesson.start(shape, seed), best_device()), shape)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def autocast(precision: Precision) -> torch.autocast:
    """Autocast on the best device, as the settings of a run say."""
    return torch.autocast(best_device().type, torch.bfloat16, enabled=use_bf16(precision))


def _ready(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    if device.type == "cpu":
        model.set_attn_implementation("eager")  # at 100 tokens, SDPA's backward pass takes several times as long
    model.to(device)
    return model


def _optimizer(model: PreTrainedModel, training: Training, learning_rate: float) -> torch.optim.Optimizer:
    if training.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=learning_rate)
    matrices = [weights for weights in model.parameters() if weights.ndim > 1]
    others = [weights for weights in model.parameters() if weights.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, fused=True)


@torch.no_grad()
def _clip(model: Any, bound: float | None) -> None:
    if bound is not None:
        for weights in model.parameters():
            weights.clamp_(-bound, bound)
