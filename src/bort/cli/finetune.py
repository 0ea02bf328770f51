"""`bort finetune`: a classifier from labelled texts."""

from __future__ import annotations

from typing import Any

from bort.training.arguments import FinetuneArguments


def finetune(arguments: FinetuneArguments) -> dict[str, Any]:
    """Fit a classifier or regressor on labelled texts or pairs of texts.

    The data are tables with a column `text`, perhaps `text_b`, and `label` (the names can be set). One model is
    fine-tuned for each combination of the grid and stopped early; the best on the development data is kept. A killed
    run goes on with --resume.
    """
    from bort.progress import out
    from bort.training.finetune import finetune as implementation

    metrics = implementation(arguments)
    metric = metrics["metric"]
    for part, name in (("dev", "development"), ("test", "test")):
        if part in metrics:
            low, high = metrics[f"{part}_confidence"][metric]
            out().print(f"{name} {metric} {metrics[part][metric]:.3f} (95 %: {low:.3f} to {high:.3f})")
    out().print(f"{arguments.out}: model, metrics.json and report.html", soft_wrap=True)
    return metrics


__all__ = ["FinetuneArguments", "finetune"]
