"""Agora on few labels: what each part brings.

    python -m benchmarks.quality.agora_ablation --teacher runs/all-mpnet-base-v2

Each row changes one part of the run that `quality.agora` compares; data, teacher and kept runs are as there. Pruning is
compared on the default grid, for of two combinations both rules drop the same one. Another student, other tasks or a
few parts make a section of their own: --section.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import publish, table
from benchmarks.quality.agora_runs import PUBLISHED, Bench, changes_of, column, options, overall, percent
from benchmarks.quality.scarce import Cache, Record

MADE_ONLY: dict[str, Any] = {"points_per_mistake": 8}
DEFAULT_GRID: dict[str, Any] = {"learning_rates": [5e-4, 2.5e-4, 1e-4], "batch_sizes": [8, 32]}
UNUSUAL = ("32 texts a mistake from the pool", "a weak teacher used")
"""Of other students, and of tasks without a good teacher."""


def parts_for(student: str) -> dict[str, dict[str, Any]]:
    """What differs from the defaults of `bort finetune`, by the part that it is about."""
    whole = changes_of(student, "Agora")
    return {
        "Agora": whole,
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
    points = [100 * (a - b) for task in whole for a, b in zip(part[task], whole[task], strict=True)]
    mean = f"{overall(part) - overall(whole):+.1f}"
    return f"{mean} ± {statistics.stdev(points) / len(points) ** 0.5:.1f}" if len(part[next(iter(part))]) > 1 else mean


def main() -> None:
    made = options(__doc__)
    made.add_argument("--student", default="bort-nano")
    made.add_argument("--section", default="", help="what the section's name and heading end in")
    made.add_argument("--tasks", nargs="+", default=["trec", "banking12", "sst2"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--parts", nargs="+", help="by default all but a few")
    arguments = made.parse_args()
    parts = parts_for(arguments.student)
    chosen = arguments.parts or [part for part in parts if part not in UNUSUAL]
    if unknown := [part for part in chosen if part not in parts]:
        made.error(f"{unknown[0]!r} is none of: {', '.join(parts)}")
    texts = parts["Agora"]["unlabelled_per_mistake"]
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

    whole = column(runs["Agora"], "test")
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    plain = column(runs["Agora"], "plain")
    rows.append(["plain, best of Θ", *map(percent, plain.values()), f"{overall(plain):.1f}", against(plain, whole), ""])
    for part, found in runs.items():
        by_task = figures[part] = column(found, "test")
        minutes = statistics.median(record["seconds"] / 60 for records in found.values() for record in records)
        points = overall(by_task)
        change = "" if part == "Agora" else against(by_task, whole)
        rows.append([part, *map(percent, by_task.values()), f"{points:.1f}", change, f"{minutes:.1f}"])
    several = len(arguments.seeds) > 1
    sizes = f"{len(arguments.seeds)} seed{'s' if several else ''}"
    chance = "± is the standard error of the differences of the same task and seed" if several else "one run of each"
    about = f"""
        {Path(arguments.student).name}, test accuracy in % with 100 to 300 labels, {sizes}, a few hundred test texts a
        task; {chance}. Agora: soft labels by teacher and student together, 4 new texts and {texts} of the pool for
        each mistake, two combinations. Each other row changes what it names. Minutes: a core's time, median.
    """
    shown = table(["part", *arguments.tasks, "mean", "against Agora", "minutes"], rows)
    name, title = "agora_ablation", "Agora: what each part brings"
    if arguments.section:
        name, title = f"{name}_{arguments.section.replace(' ', '_')}", f"{title}: {arguments.section}"
    publish(name, title, about=about, shown=shown, figures=figures, out=arguments.out)


if __name__ == "__main__":
    main()
