"""Estimates the speed, memory and duration of a pre-training run on this device from a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import RobertaConfig

from bort.bounds import validate
from bort.errors import BortError
from bort.model.checkpoints import load_config, locate, unpacked
from bort.model.devices import describe, use_bf16
from bort.model.tokenization import load_tokenizer
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.init_weights import student_config
from bort.pretraining.measure import STEPS, WARMUP_STEPS, measure
from bort.progress import bar
from bort.training import distributed

PAPER_GPU_HOURS = 288
"""GPU hours of pre-training that the paper claims (arXiv 2010.10499), on GPUs of 2020."""

_FP32_BYTES = 4
_KNOWN_TEACHERS = {"roberta-large": (24, 16, 1024), "roberta-base": (12, 12, 768)}
"""Depth, heads and width of published teachers, so that a plan needs no network access."""


@distributed.told_once()
def plan(arguments: PretrainArguments) -> dict[str, Any]:
    """Measure 20 optimiser steps of a run on random tokens, and estimate what the whole run takes.

    Nothing is written, and no corpus, tokenizer or weights are needed: student and teacher have random weights of the
    right shape. If the steps would take longer than a minute and a half with the run's batch, or more memory than
    available, a smaller batch is measured and the figures are scaled by tokens.

    Returns:
        Figures by name, with their units; bytes are per process. `notes` are sentences about how they were obtained.

    Raises:
        BortError: Invalid settings, or not even one sequence fits into memory.
    """
    distributed.join()
    arguments = replace(arguments, plan=True)
    validate(arguments)
    assert arguments.max_steps is not None
    notes: list[str] = []
    teacher_config = _teacher_config(arguments.teacher, notes)
    config = student_config(arguments, _vocab_size(arguments, teacher_config))
    if arguments.keeps_logits:
        notes.append("the teacher is left out: it reads each row once, before training (--teacher-cache)")
    if arguments.embedding_teacher is not None:
        notes.append("the embedding teacher is left out: the steps of a masked LM were measured")
    with bar("measuring", WARMUP_STEPS + STEPS, silent=not distributed.is_first()) as shown:
        measured = measure(arguments, config, None if arguments.keeps_logits else teacher_config, shown)
    processes = distributed.count()
    share = measured.rows * measured.length / (arguments.batch_size * arguments.sequence_length)
    if share < 1:
        wanted = f"{arguments.batch_size} x {arguments.sequence_length}"
        notes.append(
            f"measured with {measured.rows} x {measured.length} tokens at a time instead of {wanted}, for the time or "
            "the memory of this device; speed and memory are scaled by tokens"
        )
    weights = _FP32_BYTES * measured.student_parameters // (processes if arguments.fsdp else 1)
    # The floor contains the weights; gradients and the optimiser's two states are added to it.
    scaled = measured.floor_bytes + 3 * weights + arguments.batch_size * measured.row_bytes
    step_seconds = measured.pass_seconds * arguments.accumulate / share + measured.optimizer_seconds
    step_tokens = processes * arguments.batch_size * arguments.accumulate * arguments.sequence_length
    seconds = arguments.max_steps * step_seconds
    return {
        "device": describe(),
        "precision": "bf16" if use_bf16(arguments.precision) else "fp32",
        "processes": processes,
        "tokens_per_step": step_tokens,
        "tokens": arguments.max_steps * step_tokens,
        "measured_batch_size": measured.rows,
        "measured_sequence_length": measured.length,
        "tokens_per_second": step_tokens / step_seconds,
        "seconds_per_step": step_seconds,
        "days": seconds / 86_400,
        "device_hours": seconds / 3_600 * processes,
        "student_parameters": measured.student_parameters,
        "teacher_parameters": measured.teacher_parameters,
        "weights_bytes": weights,
        "gradients_bytes": weights,
        "optimizer_bytes": 2 * weights,
        "teacher_bytes": _FP32_BYTES * measured.teacher_parameters,
        "measured_peak_bytes": measured.peak_bytes,
        "peak_bytes": measured.peak_bytes if share == 1 else max(scaled, measured.peak_bytes),
        "notes": notes,
    }


def known_teacher(name: str) -> RobertaConfig | None:
    """The configuration of a published teacher, if it is known here."""
    shape = _KNOWN_TEACHERS.get(name.removeprefix("FacebookAI/"))
    if shape is None:
        return None
    return RobertaConfig(
        vocab_size=50_265,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_hidden_layers=shape[0],
        num_attention_heads=shape[1],
        hidden_size=shape[2],
        intermediate_size=4 * shape[2],
    )


def _teacher_config(teacher: str | None, notes: list[str]) -> Any:
    """The teacher's configuration: known here, or loaded; None, with a note, if it cannot be loaded."""
    if teacher is None:
        return None
    if not Path(teacher).exists() and (known := known_teacher(teacher)) is not None:
        return known
    locate(teacher)
    try:
        return load_config(teacher)
    except BortError:
        if Path(teacher).exists():
            raise
        notes.append(f"the teacher's cost is left out: the shape of {teacher} is not known here")
        return None


def _vocab_size(arguments: PretrainArguments, teacher: Any) -> int | None:
    """The vocabulary size of the teacher, or of a tokenizer that is a folder or embedded, else None."""
    if teacher is not None:
        return int(teacher.vocab_size)
    if arguments.tokenizer and Path(folder := unpacked(arguments.tokenizer)).is_dir():
        return len(load_tokenizer(folder))
    return None
