"""How fast a pre-training run goes on the device at hand, and in how much memory, over a few steps of random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, PrinterCallback, TrainerCallback

from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.checkpoints import quiet
from bort.model.devices import peak_memory_bytes, use_bf16, used_memory_bytes
from bort.model.modelling import BortForMaskedLM, set_dropout
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.fsdp import fsdp_settings, make_shardable
from bort.pretraining.objective import Objective
from bort.pretraining.trainer import Clock, MlmTrainer
from bort.pretraining.validation import collate
from bort.progress import Bar
from bort.training import distributed
from bort.training.settings import trainer_settings

WARMUP_STEPS, STEPS = 2, 20
FP32_BYTES = 4
_LONGEST_SECONDS = 90.0
_SHORTEST_LENGTH = 64
_SPECIAL_IDS = 5


class _RandomTeacher(MaskedLMTeacher):
    """A teacher of a shape, which costs what a trained one does."""

    def __init__(self, config: Any, device: torch.device) -> None:
        from transformers import AutoModelForMaskedLM

        self.model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32).to(device).eval()
        self.model.requires_grad_(False)


class Measurement:
    """The run's own trainer on random tokens, with a watch beside it.

    Args:
        arguments: The run's settings.
        config: The student's shape.
        teacher_config: The teacher's shape, or None.
        folder: For the trainer, which needs one.
        shown: Progress, of total `WARMUP_STEPS + STEPS`.
    """

    def __init__(
        self, arguments: PretrainArguments, config: BertConfig, teacher_config: Any, folder: Path, shown: Bar
    ) -> None:
        self.arguments, self.config, self.folder, self.shown = arguments, config, folder, shown
        self.shown.update(0, "building the models")
        self.teacher: _RandomTeacher | None = None
        self.teacher_parameters = 0
        device = self._settings(1).device
        if teacher_config is not None:
            self.teacher = _RandomTeacher(teacher_config, device)
            self.teacher_parameters = sum(p.numel() for p in self.teacher.model.parameters())
        self.parameters = self.floor_bytes = self.row_bytes = self.peak_bytes = 0
        self.pass_seconds = self.optimizer_seconds = 0.0
        self.sharded = False

    def run(self) -> tuple[int, int]:
        """Fill in the figures, and return how many sequences at a time were measured, and of how many tokens.

        Raises:
            BortError: Not even one sequence fits into the memory of a GPU; or, where several processes measure, one
                of them lacks the memory for what fits into the others'.
        """
        rows = 1
        try:
            rows, length = distributed.from_first(self._affordable())
            while True:
                try:
                    self._measure(rows, length)
                    return rows, length
                except torch.OutOfMemoryError:
                    if rows == 1 or distributed.count() > 1:  # beside others there is no going back alone
                        raise
                torch.cuda.empty_cache()
                rows //= 2
        except torch.OutOfMemoryError:
            rule = "so many sequences do not fit into the memory of this device"
            raise BortError(rule, setting="batch_size", value=rows) from None

    def _affordable(self) -> tuple[int, int]:
        """How much of the run's micro-batch a pass may have to end in time and fit into memory: sequences, tokens each.

        Sequences are cut where one alone would take too long.
        """
        arguments = self.arguments
        trainer = self._trainer(1, arguments.sequence_length)
        batch = {name: tensor.to(trainer.args.device) for name, tensor in collate([trainer.train_dataset[0]]).items()}
        model = trainer.model.to(trainer.args.device).train()
        self.parameters = sum(p.numel() for p in model.parameters())
        self.floor_bytes, seconds = used_memory_bytes(), 0.0
        for _ in range(2):  # the first pass is slower than any other
            started = _now()
            with trainer.compute_loss_context_manager():
                trainer.compute_loss(model, batch).backward()
            seconds = _now() - started
            model.zero_grad()
        self.row_bytes = max(0, peak_memory_bytes() - self.floor_bytes - FP32_BYTES * self.parameters)
        in_time = _LONGEST_SECONDS / ((WARMUP_STEPS + STEPS) * seconds)
        if trainer.args.device.type == "cuda":
            in_memory = float("inf")  # more than there is can be tried, and is told without harm
        else:
            import psutil

            in_memory = 0.8 * psutil.virtual_memory().available / max(1, self.row_bytes)
        rows = max(1, min(arguments.batch_size, int(min(in_time, in_memory))))
        length = max(_SHORTEST_LENGTH, int(min(1.0, in_time) * arguments.sequence_length))
        return rows, min(length, arguments.sequence_length)

    def _measure(self, rows: int, length: int) -> None:
        trainer = self._trainer(rows, length)
        self.sharded = trainer.is_fsdp_enabled
        if self.sharded:
            make_shardable(trainer.model)
        watch = _Watch(self.shown, rows)
        trainer.add_callback(watch)
        trainer.training_step = watch.after(trainer.training_step)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with quiet():
            trainer.train()
        self.peak_bytes = peak_memory_bytes()
        self.optimizer_seconds = watch.optimizer_seconds / STEPS
        self.pass_seconds = (watch.ended - watch.started) / STEPS - self.optimizer_seconds

    def _settings(self, rows: int) -> Any:
        return trainer_settings(
            self.folder,
            max_steps=WARMUP_STEPS + STEPS,
            per_device_train_batch_size=rows,
            learning_rate=self.arguments.learning_rate,
            weight_decay=self.arguments.weight_decay,
            bf16=use_bf16(self.arguments.precision),
            logging_steps=10**9,
            torch_compile=self.arguments.compile,
            **fsdp_settings(self.arguments.fsdp),
        )

    def _trainer(self, rows: int, length: int) -> MlmTrainer:
        arguments, settings = self.arguments, self._settings(rows)
        model = BortForMaskedLM(self.config)
        set_dropout(model, arguments.dropout)
        vocab_size, special = self.config.vocab_size, tuple(range(_SPECIAL_IDS))
        tokens = np.random.default_rng(0).integers(_SPECIAL_IDS, vocab_size, 64 * length)
        trainer = MlmTrainer(
            arguments,
            Clock(settings.max_steps, None),
            Objective(arguments, self.teacher),
            tokens_per_step=rows * settings.world_size * length,
            model=model,
            args=settings,
            train_dataset=PackedRows(
                tokens=tokens.astype(np.uint32),
                masker=Masker(
                    mask_id=4, special_ids=special, vocab_size=vocab_size, probability=arguments.mask_probability
                ),
                sequence_length=length,
                bos_id=0,
                eos_id=2,
                length=settings.max_steps * rows * settings.world_size,
            ),
            data_collator=collate,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


class _Watch(TrainerCallback):
    """Times the steps after the first few, and within them what comes once a step: clipping and the optimiser."""

    def __init__(self, shown: Bar, rows: int) -> None:
        self.shown, self.rows = shown, rows
        self.started = self.ended = self.optimizer_seconds = self._passed = 0.0

    def after(self, training_step: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, noting when the gradients are there."""

        def timed(*arguments: Any, **more: Any) -> Any:
            loss = training_step(*arguments, **more)
            self._passed = _now()
            return loss

        return timed

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is done."""
        self.ended = _now()
        if state.global_step <= WARMUP_STEPS:
            self.started = self.ended
        else:
            self.optimizer_seconds += self.ended - self._passed
        control.should_save = False
        note = f"step {state.global_step} of {WARMUP_STEPS + STEPS}, sequences at a time: {self.rows}"
        self.shown.update(state.global_step, note)


def _now() -> float:
    """Seconds, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
