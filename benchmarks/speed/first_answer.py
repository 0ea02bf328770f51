"""How soon a new process answers its first text, how much memory it uses, and how large a model is on disk.

    python -m benchmarks.speed.first_answer

The time runs from the start of Python to the answer, including imports, the check of all files and loading the model.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common import ANSWERING, Benchmark, Shown, Target, parser, publish, table
from benchmarks.speed.inference import OWN

OTHERS = ("bert-base", "minilm-l6")
BOUNDS = {"bort": (0.45, 200), "bort-nano": (0.30, 120)}
"""Seconds and megabytes, with the fastest engine."""


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = f"""
        From the start of a Python process to the answer to one text with `bort.Predictor`: medians of {settings.rounds}
        rounds, in which all run in turn, {settings.threads} threads, files in the page cache. Memory is the peak
        resident size, including mapped files. Random weights.
    """
    rows = [
        [
            f"{row['model']}, {row['engine']}",
            f"{row['seconds']['median']:.2f}",
            f"{row['megabytes']:.0f}",
            f"{row['disk']:.1f}",
        ]
        for row in figures["first_answers"]
    ]
    targets = []
    for model, (seconds, megabytes) in BOUNDS.items():
        own = [row for row in figures["first_answers"] if row["model"] == model]
        row = min(own, key=lambda row: row["seconds"]["median"])
        targets.append(Target(f"{model} {row['engine']}, seconds", row["seconds"]["median"], "<", seconds, " s"))
        targets.append(Target(f"{model} {row['engine']}, memory", row["megabytes"], "<", megabytes, " MB"))
    return Shown(about, table(["model and engine", "seconds", "peak MB", "MB on disk"], rows), tuple(targets))


BENCHMARK = Benchmark(
    name="first_answer",
    page="speed",
    title="First answer",
    question="How soon does a new process answer, and how much memory does it use?",
    sources=(*ANSWERING, "src/bort/export"),
    show=show,
)


def main() -> None:
    from bort.model.checkpoints import quiet
    from bort.speed.contestants import usual_engines
    from bort.speed.measure import measure

    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--threads", type=int, default=2)
    arguments = made.parse_args()
    engines = [engine for engine in usual_engines() if engine != "torch-eager"]
    with quiet():
        figures = measure(
            OWN, OTHERS, engines=engines, loads=[], threads=arguments.threads, fresh_rounds=arguments.rounds
        )
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
