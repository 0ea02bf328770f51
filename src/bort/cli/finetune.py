"""`bort finetune`: a classifier from labelled texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bort.training.arguments import FinetuneArguments


def finetune(
    arguments: FinetuneArguments, *, teacher: Callable[[Sequence[Any]], Sequence[Any]] | None = None
) -> dict[str, Any]:
    """Fit a classifier or regressor on labelled texts or pairs of texts.

    The data are tables with a column `text`, perhaps `text_b`, and `label` (the names can be set). By default it goes
    round after round (Agora): fine-tune a model for each combination of the grid, make new texts near the best one's
    mistakes on the development data, let a teacher label them, train on them too. --method plain fine-tunes once for
    each combination. A killed run goes on with --resume.
    """
    from bort.progress import out

    if arguments.method == "plain":
        from bort.training.finetune import finetune as plain

        metrics = plain(arguments)
    else:
        from bort.agora.finetune import finetune as agora

        metrics = agora(arguments, teacher=teacher)
    metric = metrics["metric"]
    held_out = "held-out" if metrics.get("held_out") else "test"
    for part, name in (("dev", "development"), ("test", held_out)):
        if part in metrics:
            out().print(f"{name} {metric} {_interval(metrics, part, metric)}")
    for other, name in (("plain", "plain fine-tuning"), ("teacher", "the teacher")):
        if other in metrics:
            out().print(f"  {name}: {_interval(metrics[other], 'test', metric)}")
    out().print(f"{arguments.out}: model, metrics.json and report.html", soft_wrap=True)
    return metrics


def _interval(metrics: dict[str, Any], part: str, metric: str) -> str:
    low, high = metrics[f"{part}_confidence"][metric]
    return f"{metrics[part][metric]:.3f} (95 %: {low:.3f} to {high:.3f})"


__all__ = ["FinetuneArguments", "finetune"]
