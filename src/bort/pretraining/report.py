"""The report page of a pre-training run."""

from __future__ import annotations

from typing import Any

from bort.report import Curve, Report, lines_chart

_NATS = {"loss_mlm": "training, masked LM", "loss_kd": "training, distance to the teacher's distributions"}


_DISTANCES = {
    "loss_embedding": "training, 1 - cosine, pooled",
    "loss_similarity": "training, difference of similarities",
    "loss_tokens": "training, 1 - cosine, token by token",
}


def _has(events: list[dict[str, Any]], name: str) -> bool:
    return bool(events) and name in events[0]


def _curve(events: list[dict[str, Any]], name: str) -> Curve:
    return [event["step"] for event in events], [event[name] for event in events]


def pretrain_report(
    name: str, metrics: dict[str, Any], steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> Report:
    """Create the report page of a pre-training run: figures, loss curves, baselines.

    Args:
        name: Name of the run's folder.
        metrics: Contents of `metrics.json`.
        steps: The journal's `step` events.
        evaluations: The journal's `validation` events.
    """
    masked, embedded = "validation_loss" in metrics, "validation_distance" in metrics
    report = Report(f"Pre-training: {name}", "What the model makes of text that it was not trained on.")
    tiles = []
    if masked:
        tiles += [
            (f"{metrics['validation_loss']:.3f}", "validation loss (nats)"),
            (f"{100 * metrics['validation_accuracy']:.1f} %", "masked tokens right"),
        ]
    if embedded:
        tiles.append((f"{1 - metrics['validation_distance']:.3f}", "cosine to the teacher's embeddings"))
    tiles += [
        (f"{metrics['tokens'] / 1e6:.1f} M", "training tokens"),
        (f"{metrics['seconds'] / 60:.1f} min", metrics["device"]),
        (f"{metrics['tokens_per_second']:,}", "tokens a second"),
    ]
    report.tiles(tiles)
    losses: dict[str, Curve] = {"training, all terms": _curve(steps, "loss")}
    losses |= {title: _curve(steps, loss) for loss, title in _NATS.items() if _has(steps, loss)}
    if masked:
        losses["held-out, masked LM"] = _curve(evaluations, "loss")
    report.chart(lines_chart("Loss", losses, "optimiser steps", "loss"))
    if embedded:
        distances: dict[str, Curve] = {
            title: _curve(steps, loss) for loss, title in _DISTANCES.items() if _has(steps, loss)
        }
        distances["held-out, 1 - cosine, pooled"] = _curve(evaluations, "distance")
        report.chart(lines_chart("Distance to the teacher's embeddings", distances, "optimiser steps", "distance"))
    if masked:
        report.heading("Against what it should beat")
        report.table(
            ["model", "loss (nats)", "masked tokens right"],
            [
                ["this model", metrics["validation_loss"], f"{100 * metrics['validation_accuracy']:.1f} %"],
                ["counting words (unigram)", metrics["unigram_loss"], f"{100 * metrics['unigram_accuracy']:.1f} %"],
                ["before training", metrics["initial_loss"], f"{100 * metrics['initial_accuracy']:.1f} %"],
            ],
        )
    return report
