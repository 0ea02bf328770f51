"""The pages that training runs leave behind."""

from __future__ import annotations

from typing import Any

from bort.report import Report, lines_chart
from bort.runs import Run, environment


def pretrain_report(run: Run, metrics: dict[str, Any], evaluations: list[dict[str, float]]) -> None:
    """Write `report.html` of a pre-training run: figures, loss curves, what it is measured against."""
    steps = list(run.events("step"))
    report = Report(f"Pre-training: {run.path.name}", "Loss and accuracy at masked positions of held-out text.")
    report.tiles(
        [
            (f"{metrics['validation_loss']:.3f}", "validation loss (nats)"),
            (f"{100 * metrics['validation_accuracy']:.1f} %", "masked tokens right"),
            (f"{metrics['tokens'] / 1e6:.1f} M", "training tokens"),
            (f"{metrics['seconds'] / 60:.1f} min", metrics["device"]),
            (f"{metrics['tokens_per_second']:,}", "tokens a second"),
        ]
    )
    report.chart(
        lines_chart(
            "Loss",
            {
                "training": ([e["step"] for e in steps], [e["loss"] for e in steps]),
                "validation": ([e["step"] for e in evaluations], [e["loss"] for e in evaluations]),
            },
            "optimiser steps",
            "loss",
        )
    )
    report.heading("Against what it should beat")
    start = "initial" if "initial_loss" in metrics else "random_weights"
    report.table(
        ["model", "loss (nats)", "masked tokens right"],
        [
            ["this model", metrics["validation_loss"], f"{100 * metrics['validation_accuracy']:.1f} %"],
            ["counting words (unigram)", metrics["unigram_loss"], f"{100 * metrics['unigram_accuracy']:.1f} %"],
            ["before training", metrics[f"{start}_loss"], f"{100 * metrics[f'{start}_accuracy']:.1f} %"],
        ],
    )
    report.heading("Made with")
    made = environment()
    report.code(" ".join(made["command"]))
    report.table(["what", "which"], [[name, version] for name, version in made["packages"].items()])
    report.write(run.path / "report.html")
