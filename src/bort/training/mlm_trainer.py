"""The library's trainer as pre-training uses it: this product's loss, order of data, and schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer

from bort.errors import BortError
from bort.training.arguments import PretrainArguments
from bort.training.losses import distillation
from bort.training.schedule import Clock, warmup_then_linear
from bort.training.teachers import MaskedLMTeacher


class MlmTrainer(Trainer):
    """Masked LM, alone or beside distillation, over rows that are numbered in training order.

    Args:
        settings: Weights and temperature of the losses, warm-up.
        clock: Where the run stands; it sets the learning rate.
        teacher: Its logits are learned from, or None.
        tokens_per_step: Of all devices together.
        trainer: Arguments of the library's class.
    """

    def __init__(
        self,
        settings: PretrainArguments,
        clock: Clock,
        teacher: MaskedLMTeacher | None,
        *,
        tokens_per_step: int,
        **trainer: Any,
    ) -> None:
        super().__init__(**trainer)
        self.settings, self.clock, self.teacher, self.tokens_per_step = settings, clock, teacher, tokens_per_step
        # Every row has the same number of masked positions, so a mean over micro-batches is the mean over the batch.
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
        """0.1 MLM + 0.5 T² KL with a teacher, MLM alone without one."""
        # A teacher is compared by logits. FSDP gathers a layer's weights when the layer is called, so the decoder must
        # be; and the loss without logits would be compiled anew for each number of masked positions.
        loss_only = self.teacher is None and not (self.is_fsdp_enabled or self.args.torch_compile)
        output = model(**inputs, loss_only=loss_only)
        loss = output.loss
        if self.teacher is not None:
            weight = 0.1 if self.settings.mlm_weight is None else self.settings.mlm_weight
            logits = self.teacher.logits(inputs["input_ids"], inputs["labels"])
            distance = distillation(
                output.logits, logits, temperature=self.settings.temperature, kind=self.settings.kd_loss
            )
            loss = weight * loss + self.settings.kd_weight * distance
        elif self.settings.mlm_weight is not None:
            loss = self.settings.mlm_weight * loss
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Refuse to go on from a loss that is not finite."""
        if not math.isfinite(logs.get("loss", 0.0)):
            rule = f"training diverged at step {self.state.global_step}; lower --learning_rate or raise --warmup"
            raise BortError(rule, column="loss", value=logs["loss"])
        super().log(logs, start_time)
