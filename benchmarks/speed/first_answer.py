"""How soon a new process answers its first text, in how much memory, and how large a model is on disk.

    python -m benchmarks.speed.first_answer

From the start of Python to the answer, imports, the check of all files and the load of the model included.
"""

from __future__ import annotations

from benchmarks.common import Target, parser, publish
from benchmarks.speed.inference import OWN, markdown
from bort.model.checkpoints import quiet
from bort.speed.contestants import usual_engines
from bort.speed.measure import measure

OTHERS = ("bert-base", "minilm-l6")
ENGINE = "onnxruntime-int8"
BOUNDS = {"bort": (0.6, 200), "bort-nano": (0.35, 120)}
"""Seconds and megabytes."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--threads", type=int, default=2)
    arguments = made.parse_args()
    engines = [engine for engine in usual_engines() if engine != "torch-eager"]
    with quiet():
        figures = measure(
            OWN, OTHERS, engines=engines, loads=[], threads=arguments.threads, fresh_rounds=arguments.rounds
        )
    found = {(row["model"], row["engine"]): row for row in figures["first_answers"]}
    targets = []
    for model, (seconds, megabytes) in BOUNDS.items():
        row = found[model, ENGINE]
        targets.append(Target(f"{model} {ENGINE}, seconds", row["seconds"]["median"], "<", seconds, " s"))
        targets.append(Target(f"{model} {ENGINE}, memory", row["megabytes"], "<", megabytes, " MB"))
    about = f"""
        From the start of a Python process to the answer to one text with `bort.Predictor`: medians of
        {arguments.rounds} rounds in which all took turns, {arguments.threads} threads, files in the page cache. Memory
        is the most that was resident, mapped files included. Random weights.
    """
    shown = markdown(figures)
    publish(
        "first_answer", "First answer", about=about, shown=shown, figures=figures, targets=targets, out=arguments.out
    )


if __name__ == "__main__":
    main()
