"""The pre-training step of preset `bort` with a teacher of RoBERTa-large's shape, compiled, in bf16 on a GPU.

    python -m benchmarks.gpu.step

It runs the 20 steps that `bort pretrain --plan` runs. Weights are random, because only time and memory count. If the
card's peak is not listed here, no share of the peak is reported.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from benchmarks.common import Benchmark, Shown, parser, publish, table

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DENSE_BF16_TFLOPS = (
    (r"\bMIG\b", None),  # a slice of a card
    (r"\bH[12]00 NVL\b", 835.0),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH[12]00\b", 989.0),
    (r"\bA100\b", 312.0),
    (r"\bL40S\b", 362.0),
    (r"\bA10\b", 125.0),
    (r"\bL4\b", 121.0),
)
"""From the vendor's data sheets, without sparsity. A T4 is missing: it does not compute in bf16."""


def peak_tflops(device: str, precision: str) -> float | None:
    """The card's dense peak in the precision, or None if unknown.

    >>> peak_tflops("NVIDIA H100 80GB HBM3", "bf16"), peak_tflops("Tesla T4", "fp32")
    (989.0, None)
    """
    if precision != "bf16":
        return None
    return next((peak for pattern, peak in DENSE_BF16_TFLOPS if re.search(pattern, device)), None)


def forward_operations(config: PretrainedConfig, length: int, masked: float) -> float:
    """Multiplications and additions per token of a forward pass, in matrix products only.

    Args:
        config: A BERT or RoBERTa with a masked-LM head.
        length: Tokens per row; each token attends to all of them.
        masked: Share of the tokens that the head decodes.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    weights = config.num_hidden_layers * (4 * hidden**2 + 2 * hidden * inner)
    head = masked * (hidden**2 + hidden * config.vocab_size)
    attention = 4 * config.num_hidden_layers * length * hidden  # queries by keys, and their shares by values
    return 2.0 * (weights + head) + attention


def step_operations(student: PretrainedConfig, teacher: PretrainedConfig | None, length: int, masked: float) -> float:
    """The same per token of a training step: student forward, backward (twice as many), and teacher forward."""
    beside = 0.0 if teacher is None else forward_operations(teacher, length, masked)
    return 3 * forward_operations(student, length, masked) + beside


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    speed, peak = figures["tokens_per_second"], figures["peak_tflops"]
    done = speed * figures["operations_per_token"] / 1e12
    share = "unknown" if peak is None else f"{100 * done / peak:.0f} % of {peak:,.0f}"
    millions = f"{figures['operations_per_token'] / 1e6:,.0f} M"
    size = f"{figures['measured_batch_size']} x {figures['measured_sequence_length']}"
    about = f"""
        Student with preset `{settings.architecture}` ({figures["student_parameters"] / 1e6:.0f} M parameters),
        {"compiled" if settings.compile else "not compiled"}; teacher with the shape of `{settings.teacher}`
        ({figures["teacher_parameters"] / 1e6:.0f} M), which runs in each step; random weights and tokens, {size} tokens
        per step, {figures["precision"]}, on {figures["device"]}. A step is forward, backward, clipping and AdamW; mean
        of 20 steps after 2 others. TFLOP/s count the matrix products, {millions} operations per token; the peak is the
        dense one of the data sheet. {" ".join(f"Note: {note}." for note in figures["notes"])}
    """
    head = ["device", "tokens/s", "ms per step", "TFLOP/s", "share of the peak", "peak memory, GiB"]
    row = [
        figures["device"],
        f"{speed:,.0f}",
        f"{1000 * figures['seconds_per_step']:,.0f}",
        f"{done:,.1f}",
        share,
        f"{figures['peak_bytes'] / 2**30:.1f}",
    ]
    return Shown(about, table(head, [row]), figure=f"{speed:,.0f} tokens/s, {share} TFLOP/s")


BENCHMARK = Benchmark(
    name="gpu_step",
    page="speed",
    title="Pre-training step on a GPU",
    question="How fast is a pre-training step with a large teacher on a GPU, and how much of the card does it use?",
    sources=("src/bort/model/modelling.py", "src/bort/model/mlm_loss.py", "src/bort/pretraining/objective.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--architecture", default="bort")
    made.add_argument("--teacher", default="roberta-large", help="a teacher whose shape --plan knows, or a folder")
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--sequence-length", type=int, default=512)
    made.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    made.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--packed-at", default="", help="the commit, if the checkout has no history")
    arguments = made.parse_args()

    from bort.model.checkpoints import load_config
    from bort.pretraining.arguments import PretrainArguments
    from bort.pretraining.init_weights import student_config
    from bort.pretraining.plan import known_teacher, plan

    settings = PretrainArguments(
        plan=True,
        max_steps=1,
        architecture=arguments.architecture,
        teacher=arguments.teacher,
        batch_size=arguments.batch_size,
        sequence_length=arguments.sequence_length,
        precision=arguments.precision,
        compile=arguments.compile,
    )
    planned = plan(settings)
    teacher = known_teacher(arguments.teacher) or load_config(arguments.teacher)
    student = student_config(settings, teacher.vocab_size)
    kept = ("device", "precision", "tokens_per_second", "seconds_per_step", "measured_batch_size")
    kept += ("measured_sequence_length", "student_parameters", "teacher_parameters", "notes")
    figures = {name: planned[name] for name in kept} | {
        "peak_bytes": planned["measured_peak_bytes"],
        "operations_per_token": step_operations(
            student, teacher, planned["measured_sequence_length"], settings.mask_probability
        ),
        "peak_tflops": peak_tflops(planned["device"], planned["precision"]),
    }
    publish(BENCHMARK, figures, arguments, measured_at=arguments.packed_at)


if __name__ == "__main__":
    main()
