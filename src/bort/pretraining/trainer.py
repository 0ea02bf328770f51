"""The library's trainer as pre-training uses it: this product's loss, order of data, and schedule."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from bort.errors import BortError
from bort.files import write_aside
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.objective import Objective
from bort.progress import Bar
from bort.runs import Run
from bort.training import distributed
from bort.training.checkpoints import COMPLETE
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
            rule = f"training diverged at step {self.state.global_step}; lower --learning-rate or raise --warmup"
            raise BortError(rule, column="loss", value=logs["loss"])
        if "loss" in logs:
            logs |= {f"loss_{name}": float(total) / count for name, (total, count) in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)


class RunCallback(TrainerCallback):
    """Keeps the clock, shows progress, logs JSON lines, and asks for a checkpoint every so many seconds.

    Args:
        run: Where events are logged.
        clock: Decides when the run is over.
        bar: Shown progress, of total 1.
        tokens_per_step: For the throughput.
        log_steps: Steps between two journal lines.
        checkpoint_seconds: Time between two checkpoints.
    """

    def __init__(
        self, run: Run, clock: Clock, bar: Bar, *, tokens_per_step: float, log_steps: int, checkpoint_seconds: float
    ) -> None:
        self.run, self.clock, self.bar = run, clock, bar
        self.tokens_per_step, self.log_steps, self.checkpoint_seconds = tokens_per_step, log_steps, checkpoint_seconds
        self._saved = time.monotonic()
        self._since: tuple[int, float] | None = None
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.clock.start()
        self._since = (state.global_step, time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide on saving and stopping; only the time of the first process counts.

        It is asked for at the steps that are logged, where the processes exchange their losses anyway.
        """
        self.bar.update(self.clock.progress(state.global_step), f"step {state.global_step:,} {self.note}")
        if self.clock.progress(state.global_step) >= 1.0:
            control.should_training_stop = True
        asked = distributed.count() == 1 or state.global_step % self.log_steps == 0
        if asked and not control.should_training_stop and distributed.from_first(self._due()):
            control.should_save = True

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self.checkpoint_seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """One journal line: step, loss, learning rate, tokens a second."""
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        now = time.monotonic()
        step, since = self._since or (0, now)
        speed = (state.global_step - step) * self.tokens_per_step / max(now - since, 1e-9)
        self._since = (state.global_step, now)
        self.note = f"loss {logs['loss']:.3f}, {speed / 1000:.1f} k tokens/s"
        fields = {"step": state.global_step, "loss": round(logs["loss"], 4), "tokens_per_second": round(speed)}
        extra = {name: round(value, 5) for name, value in logs.items() if name.startswith("loss_")}
        rate = logs.get("learning_rate", 0.0)
        self.run.log("step", **fields, **extra, learning_rate=rate, seconds=round(self.clock.seconds(), 1))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole and remember the time it took to get there."""
        self._saved = time.monotonic()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        distributed.wait()  # each writes a part of the checkpoint
        if state.is_world_process_zero:
            with write_aside(folder / COMPLETE) as file:
                json.dump({"elapsed": self.clock.seconds(), "processes": distributed.count()}, file)
            self.run.log("checkpoint", step=state.global_step)
