"""`bort pretrain`: pre-train a model on text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.cli.results import PretrainResult
from bort.pretraining.arguments import PretrainArguments


def pretrain(arguments: PretrainArguments) -> PretrainResult:
    """Pre-train an architecture on text, or distil it from a teacher.

    Without a teacher, the loss is the masked-LM loss. With a masked LM of the same vocabulary (--teacher), it is
    0.1 MLM + 0.5 T² KL(teacher || student) at the masked positions. With an encoder of any vocabulary
    (--embedding-teacher), the student learns the teacher's sentence and token embeddings. --plan measures what a run
    would take. To continue an interrupted run, repeat the command with --resume. On several GPUs, run
    `accelerate launch -m bort pretrain ...`.

    Example:
        >>> import bort
        >>> quick = {"architecture": "tiny.json", "max_steps": 2, "batch_size": 4, "sequence_length": 16}
        >>> result = bort.pretrain(
        ...     bort.PretrainArguments(["corpus.txt"], "bort-nano", "runs/encoder", valid_share=0.2, **quick)
        ... )
        >>> bort.Encoder(str(result.out)).size
        16
    """
    if arguments.plan:
        return PretrainResult(_plan(arguments), None)
    from bort.pretraining.pretrain import pretrain as implementation
    from bort.progress import out

    metrics = implementation(arguments)
    if metrics:
        lines = [f"{arguments.out}: {metrics['tokens'] / 1e6:.1f} M tokens in {metrics['seconds'] / 60:.1f} min"]
        if "validation_loss" in metrics:
            lines.append(
                f"  held-out loss {metrics['validation_loss']:.3f}, "
                f"{100 * metrics['validation_accuracy']:.1f} % of masked tokens right "
                f"(counting words: {metrics['unigram_loss']:.3f}, {100 * metrics['unigram_accuracy']:.1f} %)"
            )
        if "validation_distance" in metrics:
            lines.append(
                f"  held-out cosine to the teacher's embeddings {1 - metrics['validation_distance']:.3f} "
                f"(before training: {1 - metrics['initial_distance']:.3f})"
            )
        out().print("\n".join(lines), highlight=False, soft_wrap=True)
    return PretrainResult(metrics, Path(arguments.out))


def _plan(arguments: PretrainArguments) -> dict[str, Any]:
    from bort.pretraining.plan import plan
    from bort.training.distributed import is_first

    planned = plan(arguments)
    if is_first():
        _print(planned, arguments)
    return planned


def _print(plan: dict[str, Any], arguments: PretrainArguments) -> None:
    from rich.table import Table

    from bort.pretraining.measure import STEPS
    from bort.pretraining.plan import PAPER_GPU_HOURS
    from bort.progress import out

    teacher = f"{arguments.teacher}, {plan['teacher_parameters'] / 1e6:.1f} M parameters"
    measured = f"{plan['measured_batch_size']} x {plan['measured_sequence_length']}"
    wanted = f"{arguments.batch_size} x {arguments.sequence_length}"
    rows = {
        "student": f"{arguments.init or arguments.architecture}, {plan['student_parameters'] / 1e6:.1f} M parameters",
        "teacher": teacher if plan["teacher_parameters"] else "none",
        "sequences a step": f"{arguments.batch_size} x {arguments.accumulate} x {plan['processes']} device(s)",
        "tokens a sequence": f"{arguments.sequence_length:,}",
        "steps": f"{arguments.max_steps:,}",
        "tokens": f"{plan['tokens']:,}",
        f"tokens a second (measured, {STEPS} steps)": f"{plan['tokens_per_second']:,.0f}",
        "optimiser step": _duration(plan["seconds_per_step"]),
        "the run on this device": f"{plan['days']:,.2f} days",
        "device hours": f"{plan['device_hours']:,.1f}",
        "GPU hours of the paper (a claim)": str(PAPER_GPU_HOURS),
        "memory: student's weights": _size(plan["weights_bytes"]),
        "memory: gradients": _size(plan["gradients_bytes"]),
        "memory: optimiser's states": _size(plan["optimizer_bytes"]),
        "memory: teacher's weights": _size(plan["teacher_bytes"]),
        f"memory: peak at {measured} (measured)": _size(plan["measured_peak_bytes"]),
    }
    if measured != wanted:
        rows[f"memory: peak at {wanted} (scaled)"] = _size(plan["peak_bytes"])
    table = Table(
        "what", "figure", title=f"{plan['device']}, {plan['precision']}", title_justify="left", show_header=False
    )
    table.columns[1].justify = "right"
    for row in rows.items():
        table.add_row(*row)
    out().print(table)
    for note in plan["notes"]:
        out().print(f"{note[0].upper()}{note[1:]}.", soft_wrap=True)


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds < 120 else f"{seconds / 60:,.1f} min"


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**30:,.2f} GiB" if bytes_ else "none"


__all__ = ["PretrainArguments", "pretrain"]
