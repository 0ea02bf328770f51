"""The `transformers` trainer for pre-training: its loss, its order of rows, its clock, its logs and checkpoints.

The clock measures the progress of a run, the learning rate follows it, and a callback stops the run at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback

from bort.errors import BortError
from bort.model.devices import use_bf16
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.fsdp import fsdp_settings, make_shardable
from bort.pretraining.objective import Objective
from bort.pretraining.taught_rows import Collator, TaughtRows
from bort.progress import Bar
from bort.runs import Run
from bort.training import checkpoints, distributed
from bort.training.schedule import warmup_then_linear
from bort.training.settings import trainer_settings

UNBOUNDED_STEPS = 10_000_000
"""Number of steps of a run that is limited by time only."""
_EVALUATIONS = 10


@dataclass
class StepClock:
    """Progress from 0 to 1: the larger of completed steps over `max_steps` and elapsed time over `max_seconds`.

    Args:
        max_steps: Optimiser steps, or None if only time counts.
        max_seconds: Training time over all resumed parts, or None if only steps count.
        elapsed: Seconds of earlier parts of a resumed run.
    """

    max_steps: int | None
    max_seconds: float | None
    elapsed: float = 0.0
    _started: float | None = field(default=None, repr=False)
    _read: tuple[int, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start counting time."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Training seconds so far, including earlier parts."""
        return self.elapsed + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps, at most 1.

        Time is that of the first process, read once per step, so that all processes get the same answer.
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
    """Trains a masked LM, with or without distillation, on rows that are numbered in training order.

    Args:
        arguments: Settings of the run.
        model: The student.
        rows: Rows to train on, in order.
        objective: Computes the loss of a batch.
        clock: Progress of the run; it sets the learning rate.
        pad_id: Id of the padding token.
        folder: Folder for checkpoints.
        log_steps: Steps between two logs of the loss; by default 20 logs per run, but at least one in 50 steps.
    """

    def __init__(
        self,
        arguments: PretrainArguments,
        model: BortForMaskedLM,
        rows: TaughtRows,
        objective: Objective,
        clock: StepClock,
        *,
        pad_id: int,
        folder: Path,
        log_steps: int | None = None,
    ) -> None:
        steps = arguments.max_steps or UNBOUNDED_STEPS
        settings = trainer_settings(
            folder,
            max_steps=steps,
            per_device_train_batch_size=arguments.batch_size,
            gradient_accumulation_steps=arguments.accumulate,
            learning_rate=arguments.learning_rate,
            weight_decay=arguments.weight_decay,
            bf16=use_bf16(arguments.precision),
            logging_steps=log_steps or max(1, min(50, steps // 20)),
            seed=arguments.seed,
            torch_compile=arguments.compile,
            **fsdp_settings(arguments.fsdp),
        )
        super().__init__(model=model, args=settings, train_dataset=rows, data_collator=Collator(pad_id))
        self.remove_callback(PrinterCallback)
        self.warmup, self.clock, self.objective = arguments.warmup, clock, objective
        self.tokens_per_step = rows_per_step(arguments) * (2 + float(rows.rows.lengths.mean()))
        self._parts: dict[str, tuple[Any, int]] = {}
        # All packed rows have the same number of masked positions, so the mean over micro-batches is that of the batch.
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled:
            make_shardable(model)
            model.to(settings.device)  # the trainer does not move a model that it will shard
        if settings.process_index:
            torch.manual_seed(arguments.seed + settings.process_index)  # different dropout in each process

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """Keep the order: rows are already numbered in training order."""
        return SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Schedule the learning rate by the clock, which counts steps, time, or both."""
        if getattr(self, "lr_scheduler", None) is None:
            self.lr_scheduler: Any = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: warmup_then_linear(self.clock.progress(step), self.warmup),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the objective's loss; its parts are kept for the log."""
        # FSDP gathers the decoder's weights only when the decoder is called, and torch.compile would recompile the loss
        # without logits for each number of masked positions.
        loss, parts = self.objective(model, inputs, keep_logits=self.is_fsdp_enabled or self.args.torch_compile)
        for name, part in parts.items():
            total, count = self._parts.get(name, (0.0, 0))
            self._parts[name] = (total + part, count + 1)
        return (loss, None) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's parts; raise an error if the loss is not finite."""
        if not math.isfinite(logs.get("loss", 0.0)):
            rule = f"training diverged at step {self.state.global_step}; lower --learning-rate or raise --warmup"
            raise BortError(rule, column="loss", value=logs["loss"])
        if "loss" in logs:
            logs |= {f"loss_{name}": float(total) / count for name, (total, count) in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)


def rows_per_step(arguments: PretrainArguments) -> int:
    """Rows per optimiser step, over all devices."""
    return arguments.batch_size * arguments.accumulate * distributed.count()


class RunCallback(TrainerCallback):
    """Starts the clock, shows progress, logs JSON lines, validates ten times, and requests checkpoints.

    Args:
        run: The run whose journal records events.
        clock: Decides when the run is over.
        bar: Progress bar with a total of 1.
        validate: Scores the model at a step, and returns the scores in words.
        tokens_per_step: Tokens per step, for the throughput.
        checkpoint_seconds: Time between two checkpoints.
    """

    def __init__(
        self,
        run: Run,
        clock: StepClock,
        bar: Bar,
        validate: Callable[[int], str],
        *,
        tokens_per_step: float,
        checkpoint_seconds: float,
    ) -> None:
        self.run, self.clock, self.bar, self.validate = run, clock, bar, validate
        self.tokens_per_step, self.checkpoint_seconds = tokens_per_step, checkpoint_seconds
        self._saved = time.monotonic()
        self._since: tuple[int, float] | None = None
        self._validated = 0
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock; a resumed run continues from its progress so far."""
        self.clock.start()
        self._since = (state.global_step, time.monotonic())
        self._validated = int(_EVALUATIONS * self.clock.progress(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide on stopping, saving and validating.

        The clock of the first process decides on checkpoints; several processes ask it only at logged steps, where they
        exchange losses anyway. Validation is at each tenth of the run but the last, which is validated after training.
        """
        progress = self.clock.progress(state.global_step)
        self.bar.update(progress, f"step {state.global_step:,} {self.note}")
        if progress >= 1.0:
            control.should_training_stop = control.should_log = True  # a logged loss is checked
        asked = distributed.count() == 1 or state.global_step % args.logging_steps == 0
        if asked and not control.should_training_stop and distributed.from_first(self._due()):
            control.should_save = True
        if self._validated < int(_EVALUATIONS * progress) < _EVALUATIONS:
            self._validated = int(_EVALUATIONS * progress)
            self.note = f"{self.note} (validation {self.validate(state.global_step)})"

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self.checkpoint_seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Write one journal line: step, loss, learning rate, tokens per second."""
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
        """Mark the checkpoint as complete and store the training time so far."""
        self._saved = time.monotonic()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        distributed.wait()  # each process writes a part of the checkpoint
        if state.is_world_process_zero:
            checkpoints.complete(folder, {"elapsed": self.clock.seconds(), "processes": distributed.count()})
            self.run.log("checkpoint", step=state.global_step)
