"""The report of a run without a teacher."""

from __future__ import annotations

from bort.finetuning import report as module
from bort.report import Report


def test_the_grid_begins_with_the_combination_that_the_run_chose():
    """By score, then by loss, then the last."""
    theta = {"weight_decay": 0.01, "warmup": 0.1, "batch_size": 8, "seed": 0}
    told = {"evaluations": [{"step": 1, "accuracy": 0.5}], "best_step": 1, "steps": 1}
    trials = [
        {"theta": theta | {"learning_rate": rate}, "score": score, "loss": loss, "place": place, **told}
        for place, (rate, score, loss) in enumerate(
            [(1e-4, 0.5, 0.1), (2e-4, 0.9, 0.3), (3e-4, 0.9, 0.2), (4e-4, 0.9, 0.2)]
        )
    ]
    page = Report("", "")
    module._grid(page, "accuracy", trials)
    table = page.text().split("<table")[1]
    places = [table.index(f"{rate:g}") for rate in (4e-4, 3e-4, 2e-4, 1e-4)]
    assert places == sorted(places)
