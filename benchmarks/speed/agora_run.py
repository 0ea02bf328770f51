"""How long `bort finetune` takes with a hundred labels, a teacher and the default grid, as a user runs it.

    python -m benchmarks.speed.agora_run --teacher runs/all-mpnet-base-v2 --data ../shared/data/scarce/sst2

Each run is a fresh process; its time includes imports, the teacher's answers, all rounds, figures and report. Its seed
is that of the new texts and of the models; how many combinations a round prunes, and so the time, depends partly on
chance. Each seed runs in one process that uses all cores; with `--workers local ray`, then also on Ray, whose workers
have one core each (needs `pip install 'bort[ray]'`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from bort.speed.race import Spread

MINUTES = 6.0
"""At most, on two cores."""


def finetune(data: Path, teacher: str, *flags: str) -> dict[str, Any]:
    """The metrics of a run, and its minutes."""
    given = [argument for part in ("train", "dev", "test") for argument in (f"--{part}", str(data / f"{part}.jsonl"))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "bort", "finetune", *given, "--teacher", teacher, "--out", str(out), *flags]
        began = time.monotonic()
        subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        minutes = (time.monotonic() - began) / 60
        metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    return {
        "minutes": minutes,
        "rounds": [[len(done["trials"]), done["train_size"]] for done in metrics["rounds"]],
        "test": metrics["test"]["accuracy"],
        "plain": metrics["plain"]["test"]["accuracy"],
        "teacher": metrics["teacher"]["test"]["accuracy"],
        "texts": metrics["rows"]["train"],
    }


def row(where: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """A row of the table: the median of the seeds' times, the means of their accuracies."""
    minutes = Spread.of([run["minutes"] for run in runs])
    grown = "; ".join(", ".join(f"{fits} on {texts:,}" for fits, texts in run["rounds"]) for run in runs)
    accuracies = [f"{100 * statistics.mean(run[part] for run in runs):.1f}" for part in ("plain", "test", "teacher")]
    return [where, minutes.show(1), *accuracies, grown]


NAMES = {"local": "in turn, on all cores", "ray": "in parallel, `--workers ray`"}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    runs: dict[str, list[dict[str, Any]]] = figures["runs"]
    first = next(iter(runs.values()))
    about = f"""
        `bort finetune` of bort-nano with the default settings on {first[0]["texts"]} labelled texts of
        {Path(settings.data).name} and 2,000 unlabelled ones; the teacher is {Path(settings.teacher).name} with logistic
        regression. Wall-clock minutes of a fresh process, including everything: median (range) over {len(first)}
        seed{"s" if len(first) > 1 else ""}. Mean test accuracy in %.
    """
    head = ["trials", "minutes", "plain", "Agora", "the teacher", "combinations trained, and on how many texts"]
    targets = [
        Target(f"minutes, trials {NAMES[where]}", statistics.median(run["minutes"] for run in done), "<=", MINUTES)
        for where, done in runs.items()
    ]
    return Shown(about, table(head, [row(NAMES[where], done) for where, done in runs.items()]), tuple(targets))


BENCHMARK = Benchmark(
    name="agora_run",
    page="agora",
    title="A whole run of Agora",
    question="How long does `bort finetune` take with 100 labels, a teacher and unlabelled texts?",
    sources=("src/bort/agora", "src/bort/finetuning", "src/bort/predict/sentence_encoder.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--teacher", required=True, help="folder of the encoder that becomes the teacher")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2"), help="folder of a task")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--workers", nargs="+", default=["local"], choices=list(NAMES))
    arguments = made.parse_args()
    pool = arguments.data / "unlabelled.jsonl"
    runs: dict[str, list[dict[str, Any]]] = {where: [] for where in arguments.workers}
    for seed in arguments.seeds:
        for where, done in runs.items():
            flags = ("--unlabelled", str(pool), "--seed", str(seed), "--seeds", str(seed), "--workers", where)
            done.append(finetune(arguments.data, arguments.teacher, *flags))
            print(f"seed {seed}, {where}: {done[-1]['minutes']:.2f} minutes, {done[-1]['test']:.3f}", flush=True)
    publish(BENCHMARK, {"runs": runs}, arguments)


if __name__ == "__main__":
    main()
