"""Agora on few labels: what each part brings.

    python -m benchmarks.quality.agora_ablation --teacher runs/all-mpnet-base-v2

Each row changes one part of the run that `quality.agora` compares; data, teacher and kept runs are as there. Pruning is
compared on the default grid, for of two combinations both rules drop the same one. Another student, other tasks or a
few parts make a result of their own: --section.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, publish, table
from benchmarks.quality.agora_runs import (
    PUBLISHED,
    Bench,
    changes_of,
    column,
    difference,
    options,
    overall,
    percent,
)
from benchmarks.quality.scarce import Cache, Record

WHOLE = "Agora"
MADE_ONLY: dict[str, Any] = {"points_per_mistake": 8}
DEFAULT_GRID: dict[str, Any] = {"learning_rates": [5e-4, 2.5e-4, 1e-4], "batch_sizes": [8, 32]}
UNUSUAL = ("32 texts a mistake from the pool", "a weak teacher used")
"""Of other students, and of tasks without a good teacher."""


def parts_for(student: str) -> dict[str, dict[str, Any]]:
    """What differs from the defaults of `bort finetune`, by the part that it is about."""
    whole = changes_of(student, WHOLE)
    return {
        WHOLE: whole,
        "Agora as published": PUBLISHED,
        "hard labels": {**whole, "labels": "hard"},
        "labels at temperature 2": {**whole, "temperature": 2.0},
        "labels by the teacher alone": {**whole, "labelled_by": "teacher"},
        "8 texts a mistake from the pool": {**whole, "unlabelled_per_mistake": 8},
        "32 texts a mistake from the pool": {**whole, "unlabelled_per_mistake": 32},
        "pool only, no new texts": {**whole, "points_per_mistake": 0},
        "new texts only, no pool": MADE_ONLY,
        **{
            f"{name} only, no pool": {**MADE_ONLY, "transforms": [name]}
            for name in ("infill", "synonym", "swap", "delete", "typo")
        },
        "replay 1": {**whole, "replay": 1},
        "a weak teacher used": {**whole, "weak_teacher": "use"},
        "default grid, LCS": {**whole, **DEFAULT_GRID},
        "default grid, halving": {**whole, **DEFAULT_GRID, "prune": "halving"},
    }


def against(part: dict[str, list[float]], whole: dict[str, list[float]]) -> str:
    """Points between two parts, with the standard error where there are several seeds."""
    points, error = difference(part, whole)
    return f"{points:+.1f}" if error is None else f"{points:+.1f} ± {error:.1f}"


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seeds = len(settings.seeds)
    chance = "± is the standard error of the differences of the same task and seed" if seeds > 1 else "one run of each"
    about = f"""
        {Path(settings.student).name}, test accuracy in % with 100 to 300 labels, {seeds} seed{
        "s" if seeds > 1 else ""
    }, a few hundred test texts a task; {chance}. Agora: soft labels by teacher and student together, 4 new texts
        and {figures["pool"]} of the pool for each mistake, two combinations. Each other row changes what it names.
        Minutes: CPU time of a run on one core, median. These are test figures: they describe, and must not choose.
    """
    whole = figures["parts"][WHOLE]["test"]
    rows = []
    for part, found in figures["parts"].items():
        test, seconds = found["test"], found["seconds"]
        cells = [percent(test[task]) for task in settings.tasks]
        change = "" if part == WHOLE else against(test, whole)
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else ""
        rows.append([part, *cells, f"{overall(test):.1f}", change, minutes])
    pool = figures["parts"].get("new texts only, no pool")
    answer = f"without a pool {against(pool['test'], whole)} points" if pool else f"{len(rows) - 1} parts: see there"
    return Shown(about, table(["part", *settings.tasks, "mean", "against Agora", "minutes"], rows), figure=answer)


BENCHMARK = Benchmark(
    name="agora_ablation",
    page="agora",
    title="What each part of Agora brings",
    question="What does each part of Agora bring?",
    sources=("src/bort/agora", "src/bort/finetuning"),
    show=show,
)


def main() -> None:
    made = options(__doc__)
    made.add_argument("--student", default="bort-nano")
    made.add_argument("--section", default="", help="what the result's name ends in")
    made.add_argument("--tasks", nargs="+", default=["trec", "banking12", "sst2"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--parts", nargs="+", help="by default all but a few")
    arguments = made.parse_args()
    parts = parts_for(arguments.student)
    chosen = arguments.parts or [part for part in parts if part not in UNUSUAL]
    if unknown := [part for part in chosen if part not in parts]:
        made.error(f"{unknown[0]!r} is none of: {', '.join(parts)}")
    bench = Bench(arguments, Cache(arguments.out / "results" / "agora.jsonl", fresh=arguments.fresh))
    runs: dict[str, dict[str, list[Record]]] = {part: {task: [] for task in arguments.tasks} for part in chosen}
    # Parts innermost: runs on the same data begin with the same trials, which are then made once.
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for part in chosen:
                record = bench.agora(arguments.student, task, seed, part, parts[part])
                runs[part][task].append(record)
                print(f"{task} seed {seed} {part}: {record['test']:.3f}", flush=True)
    if arguments.measure_only:
        return
    found: dict[str, Any] = {"plain, best of Θ": {"test": column(runs[WHOLE], "plain"), "seconds": []}}
    for part, by_task in runs.items():
        seconds = [record["seconds"] for records in by_task.values() for record in records]
        found[part] = {"test": column(by_task, "test"), "seconds": seconds}
    figures = {"parts": found, "pool": parts[WHOLE]["unlabelled_per_mistake"]}
    name = f"{BENCHMARK.name}_{arguments.section.replace(' ', '_')}" if arguments.section else ""
    publish(BENCHMARK, figures, arguments, name)


if __name__ == "__main__":
    main()
