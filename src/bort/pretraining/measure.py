"""Measures the speed and memory of a pre-training run on this device, over a few steps on random tokens."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, TrainerCallback

from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.checkpoints import quiet
from bort.model.devices import peak_memory_bytes, used_memory_bytes
from bort.model.modelling import BortForMaskedLM, set_dropout
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.objective import Objective
from bort.pretraining.taught_rows import TaughtRows
from bort.pretraining.trainer import MlmTrainer, StepClock
from bort.progress import Bar
from bort.training import distributed

WARMUP_STEPS, STEPS = 2, 20
_LONGEST_SECONDS = 90.0
_SHORTEST_LENGTH = 64
_SPECIAL_IDS = 5


@dataclass(frozen=True)
class Measurement:
    """Time and memory of a pass through `rows` sequences of `length` tokens; memory is per process.

    `pass_seconds` covers forward and backward, `optimizer_seconds` clipping and the optimiser, once per step.
    `floor_bytes` is the memory before any pass, models included; `row_bytes` is added per sequence of the run's length.
    """

    rows: int
    length: int
    pass_seconds: float
    optimizer_seconds: float
    floor_bytes: int
    row_bytes: int
    peak_bytes: int
    student_parameters: int
    teacher_parameters: int


def measure(arguments: PretrainArguments, config: BertConfig, teacher_config: Any, shown: Bar) -> Measurement:
    """Run a few steps with the run's own trainer.

    Args:
        arguments: Settings of the run. Fewer or shorter sequences are measured if `WARMUP_STEPS + STEPS` steps would
            take longer than a minute and a half, or more memory than available.
        config: The student's configuration.
        teacher_config: The teacher's configuration, or None.
        shown: Progress bar with a total of `WARMUP_STEPS + STEPS`.

    Raises:
        BortError: Not even one sequence fits into the memory of a GPU; or one of several processes runs out of memory.
    """
    shown.update(0, "building the models")
    teacher = None if teacher_config is None else _RandomTeacher(teacher_config, distributed.device())
    rows = 1
    with tempfile.TemporaryDirectory() as folder:
        make = partial(_trainer, arguments, config, teacher, Path(folder))
        try:
            one = _one_row(make(1, arguments.sequence_length))
            rows, length = distributed.from_first(_affordable(arguments, one))
            while True:
                try:
                    return _take_steps(make(rows, length), one, shown)
                except torch.OutOfMemoryError:
                    if rows == 1 or distributed.count() > 1:  # one of several processes cannot retry alone
                        raise
                torch.cuda.empty_cache()
                rows //= 2
        except torch.OutOfMemoryError:
            rule = "so many sequences do not fit into the memory of this device"
            raise BortError(rule, setting="batch_size", value=rows) from None


class _RandomTeacher(MaskedLMTeacher):
    """A teacher with random weights, which costs as much as a trained one."""

    def __init__(self, config: Any, device: torch.device) -> None:
        from transformers import AutoModelForMaskedLM

        self.size = config.vocab_size
        self.model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32).to(device).eval()
        self.model.requires_grad_(False)


def _trainer(
    arguments: PretrainArguments,
    config: BertConfig,
    teacher: _RandomTeacher | None,
    folder: Path,
    rows: int,
    length: int,
) -> _TimedTrainer:
    settings = replace(arguments, max_steps=WARMUP_STEPS + STEPS, batch_size=rows, accumulate=1)
    model = BortForMaskedLM(config)
    set_dropout(model, settings.dropout)
    tokens = np.random.default_rng(0).integers(_SPECIAL_IDS, config.vocab_size, 64 * length)
    masker = Masker(4, tuple(range(_SPECIAL_IDS)), config.vocab_size, settings.mask_probability)
    count = (WARMUP_STEPS + STEPS) * rows * distributed.count()
    packed = PackedRows(tokens.astype(np.uint32), masker, length, bos_id=0, eos_id=2, length=count)
    objective, clock = Objective(settings, teacher), StepClock(settings.max_steps, None)
    return _TimedTrainer(
        settings, model, TaughtRows(packed), objective, clock, pad_id=0, folder=folder, log_steps=10**9
    )


def _one_row(trainer: _TimedTrainer) -> Measurement:
    """Measure a forward and backward pass of one sequence, outside of training."""
    device = trainer.args.device
    batch = {name: tensor.to(device) for name, tensor in trainer.data_collator([trainer.train_dataset[0]]).items()}
    model, teacher = trainer.model.to(device).train(), trainer.objective.teacher
    parameters, floor, seconds = _parameters(model), used_memory_bytes(), 0.0
    for _ in range(2):  # the first pass is slower than any other
        started = _now()
        with trainer.compute_loss_context_manager():
            trainer.compute_loss(model, batch).backward()
        seconds = _now() - started
        model.zero_grad()
    peak = peak_memory_bytes()
    row = max(0, peak - floor - 4 * parameters)
    length = len(trainer.train_dataset[0]["input_ids"])
    return Measurement(
        1, length, seconds, 0.0, floor, row, peak, parameters, _parameters(teacher.model) if teacher else 0
    )


def _affordable(arguments: PretrainArguments, one: Measurement) -> tuple[int, int]:
    """How much of the run's micro-batch fits the time and memory limits: number of sequences, and tokens per sequence.

    Sequences are shortened if one alone would take too long.
    """
    in_time = _LONGEST_SECONDS / ((WARMUP_STEPS + STEPS) * one.pass_seconds)
    in_memory = float("inf")  # on a GPU, running out of memory is harmless and can be caught
    if not torch.cuda.is_available():
        import psutil

        in_memory = 0.8 * psutil.virtual_memory().available / max(1, one.row_bytes)
    rows = max(1, min(arguments.batch_size, int(min(in_time, in_memory))))
    length = max(_SHORTEST_LENGTH, int(min(1.0, in_time) * arguments.sequence_length))
    return rows, min(length, arguments.sequence_length)


def _take_steps(trainer: _TimedTrainer, one: Measurement, shown: Bar) -> Measurement:
    watch = _Watch(trainer, shown)
    trainer.add_callback(watch)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with quiet():
        trainer.train()
    optimizer = watch.optimizer_seconds / STEPS
    return replace(
        one,
        rows=trainer.args.per_device_train_batch_size,
        length=len(trainer.train_dataset[0]["input_ids"]),
        pass_seconds=(watch.ended - watch.started) / STEPS - optimizer,
        optimizer_seconds=optimizer,
        peak_bytes=peak_memory_bytes(),
    )


def _parameters(model: Any) -> int:
    return sum(weights.numel() for weights in model.parameters())


class _TimedTrainer(MlmTrainer):
    """Records when the gradients of a step are ready."""

    gradients_at = 0.0

    def training_step(self, *inputs: Any, **more: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*inputs, **more)
        self.gradients_at = _now()
        return loss


class _Watch(TrainerCallback):
    """Times the steps after the warm-up, and the part that runs once per step: clipping and the optimiser."""

    def __init__(self, trainer: _TimedTrainer, shown: Bar) -> None:
        self.trainer, self.shown = trainer, shown
        self.started = self.ended = self.optimizer_seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ended = _now()
        if state.global_step <= WARMUP_STEPS:
            self.started = self.ended
        else:
            self.optimizer_seconds += self.ended - self.trainer.gradients_at
        control.should_save = False
        rows = args.per_device_train_batch_size
        self.shown.update(state.global_step, f"step {state.global_step}, sequences at a time: {rows}")


def _now() -> float:
    """The time in seconds, once the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
