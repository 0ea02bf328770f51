"""What a teacher's kept answers cost a training step.

    python -m benchmarks.speed.teacher_cache --corpus ../shared/corpus/simplewiki.txt.xz

Student and teacher have the shape and vocabulary of bort-nano; the teacher is bort-nano itself. A step is reading the
rows, forward, backward, clipping and AdamW, in fp32. The steps are taken in turn, in one process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.common import Target, interleaved, parser, publish, ratio, ratios_by_round, table
from benchmarks.taught import Kind, Taught
from bort.speed.race import Spread

NAMES: dict[Kind, str] = {
    "without": "no teacher",
    "cache": "kept answers",
    "beside": "teacher beside the student",
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--rounds", type=int, default=12)
    made.add_argument("--rows", type=int, default=1024, help="rows that the teacher is asked about")
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--sequence_length", type=int, default=128)
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
        seconds = interleaved(steps, arguments.rounds)
        size, settings = taught.answer_bytes, taught.settings
    rows = [
        [name, Spread.of(seconds[kind]).show(), f"{ratio(seconds[kind], seconds['without']):.3f}"]
        for kind, name in NAMES.items()
    ]
    shown = table(["a training step", "seconds (range)", "times the one without"], rows)
    spread = ratios_by_round(seconds["cache"], seconds["without"]).show()
    about = f"""
        A step of {arguments.batch_size} rows of {arguments.sequence_length} tokens, medians of {arguments.rounds}
        rounds (ratio by round: {spread}). Kept of each masked position: the {settings.teacher_top_k} most probable
        tokens and {settings.teacher_tail} draws from the others, {size / arguments.rows / 1024:.1f} KiB a row.
    """
    cost = ratio(seconds["cache"], seconds["without"])
    publish(
        "teacher_cache",
        "Kept answers of a teacher",
        about=about,
        shown=shown,
        figures={"seconds": seconds, "bytes": size},
        targets=[Target("step with kept answers, times one without a teacher", cost, "<=", 1.1)],
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
