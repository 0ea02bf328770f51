"""The library's trainer as pre-training uses it: this product's loss, order of data, and schedule."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer

from bort.errors import BortError
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.objective import Objective
from bort.training import distributed
from bort.training.schedule import warmup_then_linear


@dataclass
class Clock:
    """Progress from 0 to 1: the larger of steps done over `max_steps` and time passed over `max_seconds`.

    Args:
        max_steps: Optimiser steps, or None where only time counts.
        max_seconds: Training time over all resumed parts, or None where only steps count.
        elapsed: Seconds of earlier parts of a resumed run.
    """

    max_steps: int | None
    max_seconds: float | None
    elapsed: float = 0.0
    _started: float | None = field(default=None, repr=False)
    _read: tuple[int, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin to count time."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Training seconds so far, earlier parts included."""
        return self.elapsed + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps, at most 1.

        Where time counts it is the first process's, read once a step, so that all processes get the same answer.
        """
        shares = [0.0]
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.max_seconds is not None:
            if self._read is None or self._read[0] != step:
                self._read = step, distributed.from_first(self.seconds())
            shares.append(self._read[1] / self.max_seconds)
        return min(1.0, max(shares))


class MlmTrainer(Trainer):
    """Masked LM, alone or beside distillation, over rows that are numbered in training order.

    Args:
        settings: Warm-up.
        clock: Where the run stands; it sets the learning rate.
        objective: Gives the loss of a batch.
        tokens_per_step: Of all devices together, on average.
        trainer: Arguments of the library's class.
    """

    def __init__(
        self,
        settings: PretrainArguments,
        clock: Clock,
        objective: Objective,
        *,
        tokens_per_step: float,
        **trainer: Any,
    ) -> None:
        super().__init__(**trainer)
        self.settings, self.clock, self.objective, self.tokens_per_step = settings, clock, objective, tokens_per_step
        self._parts: dict[str, tuple[Any, int]] = {}
        # Packed rows have the same number of masked positions each, so a mean over micro-batches is that of the batch.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """Rows are numbered in training order already."""
        return SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """By the clock, which counts steps, time, or both."""
        if getattr(self, "lr_scheduler", None) is None:
            self.lr_scheduler: Any = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: warmup_then_linear(self.clock.progress(step), self.settings.warmup),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As the objective has it."""
        # FSDP gathers a layer's weights when the layer is called, so the decoder must be; and the loss without logits
        # would be compiled anew for each number of masked positions.
        loss, parts = self.objective(model, inputs, keep_logits=self.is_fsdp_enabled or self.args.torch_compile)
        for name, part in parts.items():
            total, count = self._parts.get(name, (0.0, 0))
            self._parts[name] = (total + part, count + 1)
        return (loss, None) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's parts; refuse to go on from a loss that is not finite."""
        if not math.isfinite(logs.get("loss", 0.0)):
            rule = f"training diverged at step {self.state.global_step}; lower --learning_rate or raise --warmup"
            raise BortError(rule, column="loss", value=logs["loss"])
        if "loss" in logs:
            logs |= {f"loss_{name}": float(total) / count for name, (total, count) in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)
