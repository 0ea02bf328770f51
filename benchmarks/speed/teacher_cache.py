"""How much time cached targets of a teacher add to a training step.

    python -m benchmarks.speed.teacher_cache --corpus ../shared/corpus/simplewiki.txt.xz

Student and teacher have the shape and vocabulary of bort-nano; the teacher is bort-nano itself. A step is reading the
rows, forward, backward, clipping and AdamW, in fp32. The steps run in turn, in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, interleaved, parser, publish, ratio, ratios_by_round, table
from benchmarks.taught import Kind, Taught
from bort.speed.race import Spread

NAMES: dict[Kind, str] = {
    "without": "no teacher",
    "cache": "cached targets",
    "beside": "teacher beside the student",
}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seconds = figures["seconds"]
    about = f"""
        A step of {settings.batch_size} rows of {settings.sequence_length} tokens, medians of {settings.rounds} rounds
        (cached targets relative to no teacher, by round:
        {ratios_by_round(seconds["cache"], seconds["without"]).show()}). For each masked position, the 64 most probable
        tokens and 16 samples of the others are cached: {figures["bytes"] / settings.rows / 1024:.1f} KiB per row.
    """
    rows = [
        [name, Spread.of(seconds[kind]).show(), f"{ratio(seconds[kind], seconds['without']):.3f}"]
        for kind, name in NAMES.items()
    ]
    shown = table(["training step", "seconds (range)", "relative to no teacher"], rows)
    cost = ratio(seconds["cache"], seconds["without"])
    return Shown(about, shown, (Target("step with cached targets, relative to no teacher", cost, "<=", 1.1),))


BENCHMARK = Benchmark(
    name="teacher_cache",
    page="speed",
    title="Cached targets of a teacher",
    question="How much time do cached targets of a teacher add to a training step?",
    sources=("src/bort/pretraining/objective.py", "src/bort/pretraining/distill"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--rounds", type=int, default=12)
    made.add_argument("--rows", type=int, default=1024, help="rows that the teacher reads")
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--sequence-length", type=int, default=128)
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        taught = Taught(
            arguments.corpus,
            Path(scratch),
            distinct_rows=arguments.rows,
            batch_size=arguments.batch_size,
            sequence_length=arguments.sequence_length,
        )
        steps = {str(kind): taught.steps(kind, arguments.rows)[1] for kind in NAMES}
        figures = {"seconds": interleaved(steps, arguments.rounds), "bytes": taught.answer_bytes}
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
