"""The error of an architecture without training it fully: what s steps make of it (arXiv 2010.10499).

Every candidate sees the same batches in the same order, and learns the same outputs of the maximum point, which are
asked for once. What is learned and how its error is counted is a `Lesson`.
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
"""ê of a perfect student where nothing is left to tell it from its teacher; W divides by it."""


class Lesson(Protocol):
    """What candidates learn, and how wrong they are."""

    @property
    def starts_trained(self) -> bool:
        """Whether members know something before their training."""

    @property
    def perfect(self) -> float:
        """ê of a student that has nothing more to learn, above 0."""

    def start(self, shape: Shape, seed: int) -> PreTrainedModel:
        """A member before its training."""

    def batches(self, shape: Shape) -> Sequence[Batch]:
        """One for each training step, with the teacher's outputs."""

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Of a batch. *Shape:* ()."""

    def error(self, model: Any, shape: Shape) -> float:
        """ê of a model on what is held out."""

    def tokenizer(self, shape: Shape) -> PreTrainedTokenizerFast:
        """What a member is saved with."""

    def in_memory(self) -> Lesson:
        """The same without files: all batches are read now."""


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


@dataclass(frozen=True)
class Training:
    """How candidates are trained.

    Args:
        steps: How many.
        warmup: Share of them in which the learning rate rises.
        optimizer: AdamW, or plain SGD.
        clip_weights: Bound of every weight, if there is one.
        dropout: While candidates train.
        seed: Of random weights. Another than `order_seed` also changes the order of the batches.
        order_seed: Whose order of the batches is the one that they come in.
    """

    steps: int
    warmup: float = 0.1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    clip_weights: float | None = None
    dropout: float = 0.0
    seed: int = 0
    order_seed: int = 0

    def again(self) -> Training:
        """The same by other chance, for the noise of an error."""
        return replace(self, seed=self.seed + 1)

    def order(self) -> Sequence[int]:
        """Places of the batches, step by step."""
        if self.seed == self.order_seed:
            return range(self.steps)
        return [int(place) for place in np.random.default_rng(self.seed).permutation(self.steps)]


@dataclass(frozen=True)
class TrainedEncoder:
    """What a short training came to.

    Args:
        model: The candidate.
        error: ê; NaN where the training diverged.
        steps: How many were done.
        seconds: That they took.
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
    """Train a shape for a moment on the best device of the machine where this is called, and measure it.

    Args:
        lesson: What it learns.
        shape: The candidate.
        training: How.
        learning_rate: Peak.
        on_step: Told of each step and its loss.
    """
    started, device = time.monotonic(), best_device()
    model = _ready(lesson.start(shape, training.seed), device).train()
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
    set_dropout(model, 0.1)  # as a saved model has it
    return TrainedEncoder(model, lesson.error(model, shape), training.steps, time.monotonic() - started)


def untrained_error(lesson: Lesson, shape: Shape, seed: int) -> float:
    """ê of a shape before its training."""
    return lesson.error(_ready(lesson.start(shape, seed), best_device()), shape)


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def autocast(precision: Precision) -> torch.autocast:
    """Compute as a run's settings say, on the best device."""
    return torch.autocast(best_device().type, torch.bfloat16, enabled=use_bf16(precision))


def _ready(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    if device.type == "cpu":
        model.set_attn_implementation("eager")  # at a hundred tokens SDPA's backward pass takes several times as long
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
