"""What a pre-training run would take on the device at hand: its speed over a few steps, its memory, its days."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import BertConfig, RobertaConfig

from bort.bounds import validate
from bort.errors import BortError
from bort.model.checkpoints import load_config, locate
from bort.model.config import architecture
from bort.model.devices import describe, use_bf16
from bort.model.tokenization import load_tokenizer
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.measure import FP32_BYTES, STEPS, WARMUP_STEPS, Measurement
from bort.progress import bar
from bort.training import distributed

PAPER_GPU_HOURS = 288
"""What the paper says that its pre-training took (arXiv 2010.10499): a claim, on GPUs of 2020."""

_KNOWN_TEACHERS = {
    f"{owner}{name}": {
        "vocab_size": 50_265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
    }
    for owner in ("", "FacebookAI/")
    for name, depth, heads, hidden in (("roberta-large", 24, 16, 1024), ("roberta-base", 12, 12, 768))
}
"""Published shapes, so that a plan needs no network."""


@dataclass(frozen=True)
class Plan:
    """What a run of `steps` optimiser steps takes; sizes in bytes are of one process."""

    device: str
    precision: str
    processes: int
    sequence_length: int
    batch_size: int
    accumulate: int
    steps: int
    measured_batch_size: int
    measured_sequence_length: int
    measured_steps: int
    tokens_per_second: float
    seconds_per_step: float
    student_parameters: int
    teacher_parameters: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    teacher_bytes: int
    measured_peak_bytes: int
    peak_bytes: int
    notes: list[str] = field(default_factory=list)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimiser step, of all processes."""
        return self.processes * self.batch_size * self.accumulate * self.sequence_length

    @property
    def tokens(self) -> int:
        """Tokens of the run."""
        return self.steps * self.tokens_per_step

    @property
    def days(self) -> float:
        """Time of the run."""
        return self.steps * self.seconds_per_step / 86_400

    @property
    def device_hours(self) -> float:
        """Time of the run, times its devices."""
        return 24 * self.days * self.processes


@distributed.told_once()
def plan(arguments: PretrainArguments) -> Plan:
    """Measure 20 optimiser steps of a run on random tokens, and reckon what all of it would take.

    Nothing is written, and neither corpus, tokenizer nor weights are needed: student and teacher have random weights of
    the right shape. Where 20 steps of the run's batch would take longer than about two minutes, or more memory than
    there is, a smaller one is measured and the figures are scaled by its tokens.

    Raises:
        BortError: Bad settings, or not even one sequence fits into memory.
    """
    distributed.join()
    validate(replace(arguments, plan=True))
    assert arguments.max_steps is not None
    notes: list[str] = []
    teacher_config = _teacher_config(arguments.teacher, notes)
    config = _student_config(arguments, teacher_config)
    silent = not distributed.is_first()
    with tempfile.TemporaryDirectory() as folder, bar("measuring", WARMUP_STEPS + STEPS, silent=silent) as shown:
        measured = Measurement(arguments, config, teacher_config, Path(folder), shown)
        rows, length = measured.run()
    share = rows * length / (arguments.batch_size * arguments.sequence_length)
    if share < 1:
        wanted = f"{arguments.batch_size} x {arguments.sequence_length}"
        notes.append(
            f"measured with {rows} x {length} tokens at a time instead of {wanted}, for the time or the memory of this "
            "device; speed and memory are scaled by tokens"
        )
    shards = distributed.count() if measured.sharded else 1
    weights = FP32_BYTES * measured.parameters // shards
    scaled = measured.floor_bytes + 3 * weights + arguments.batch_size * measured.row_bytes
    passes = arguments.accumulate / share
    seconds = passes * measured.pass_seconds + measured.optimizer_seconds
    return Plan(
        device=describe(),
        precision="bf16" if use_bf16(arguments.precision) else "fp32",
        processes=distributed.count(),
        sequence_length=arguments.sequence_length,
        batch_size=arguments.batch_size,
        accumulate=arguments.accumulate,
        steps=arguments.max_steps,
        measured_batch_size=rows,
        measured_sequence_length=length,
        measured_steps=STEPS,
        tokens_per_second=distributed.count() * passes * rows * length / seconds,
        seconds_per_step=seconds,
        student_parameters=measured.parameters,
        teacher_parameters=measured.teacher_parameters,
        weights_bytes=weights,
        gradients_bytes=weights,
        optimizer_bytes=2 * weights,
        teacher_bytes=FP32_BYTES * measured.teacher_parameters,
        measured_peak_bytes=measured.peak_bytes,
        peak_bytes=measured.peak_bytes if share == 1 else max(scaled, measured.peak_bytes),
        notes=notes,
    )


def _teacher_config(teacher: str | None, notes: list[str]) -> Any:
    """The teacher's shape: known, or read from its configuration; None where it has none to be found."""
    if teacher is None:
        return None
    if teacher in _KNOWN_TEACHERS and not Path(teacher).exists():
        return RobertaConfig(**_KNOWN_TEACHERS[teacher])
    locate(teacher)
    try:
        return load_config(teacher)
    except BortError:
        if Path(teacher).exists():
            raise
        notes.append(f"the teacher's cost is left out: the shape of {teacher} is not known here")
        return None


def _student_config(arguments: PretrainArguments, teacher: Any) -> BertConfig:
    """The run's architecture, with the vocabulary that the run would have as far as it is known."""
    vocab_size = None if teacher is None else int(teacher.vocab_size)
    if vocab_size is None and arguments.tokenizer and Path(arguments.tokenizer).is_dir():
        vocab_size = len(load_tokenizer(arguments.tokenizer))
    source = arguments.architecture if arguments.init is None else locate(arguments.init)
    config = architecture(source, vocab_size=vocab_size)
    if arguments.sequence_length > config.max_position_embeddings:
        rule = f"must be at most the architecture's {config.max_position_embeddings} positions"
        raise BortError(rule, setting="sequence_length", value=arguments.sequence_length)
    return config
