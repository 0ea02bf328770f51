"""Few labels: Agora against plain fine-tuning, its teacher, plain distillation, SetFit and TF-IDF.

    python -m benchmarks.quality.agora --students bort-nano runs/all-MiniLM-L6-v2 --teacher runs/all-mpnet-base-v2

Each task is a folder with train, dev, test and unlabelled.jsonl. Everything is chosen on dev; test is scored once. The
teacher is a frozen encoder with logistic regression, or that encoder fine-tuned (--fine_tuned) where that is better on
dev. Finished runs are kept in results/agora.jsonl, known by their data, weights, seed and settings, but not by this
package's code: after a change use --fresh. The teacher's vectors are kept in --vectors. SetFit wants `pip install
setfit` (after torch); --setfit names the encoder that it trains.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Target, publish, table
from benchmarks.quality.agora_runs import (
    DISTILLED,
    METHODS,
    SETFIT_PAIRS,
    SETFIT_PAIRS_OF_PAIRS,
    Bench,
    NotMeasured,
    column,
    options,
    overall,
    percent,
)
from benchmarks.quality.scarce import TASKS, Cache, Record, baselines


def arguments_of() -> argparse.Namespace:
    made = options(__doc__)
    made.add_argument("--students", nargs="+", default=["bort-nano"])
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--methods", nargs="+", default=list(METHODS), help="the last one is held to the targets")
    made.add_argument("--rivals", nargs="*", default=[DISTILLED], help="what else to train of each student")
    made.add_argument("--setfit", help="folder of the encoder that SetFit trains")
    made.add_argument("--only_kept", action="store_true", help="make no runs, leave out seeds that are not kept")
    return made.parse_args()


def main() -> None:
    arguments = arguments_of()
    bench = Bench(arguments, Cache(arguments.out / "results" / "agora.jsonl", fresh=arguments.fresh))
    bench.only_kept = arguments.only_kept
    methods: list[str] = [*arguments.methods, *arguments.rivals]
    runs: dict[str, dict[str, dict[str, list[Record]]]] = {}
    setfit: dict[str, list[Record]] = {}

    def measured(student: str, task: str, seed: int, method: str) -> Record:
        if method != DISTILLED:
            return bench.agora(student, task, seed, method)
        seconds = bench.agora(student, task, seed, arguments.methods[-1])["seconds"]
        return bench.distilled(student, task, seed, seconds)

    # Seeds outermost: what an interrupted benchmark has is whole.
    for seed in arguments.seeds:
        for student, task in itertools.product(arguments.students, arguments.tasks):
            records = {}
            with contextlib.suppress(NotMeasured):
                for method in methods:
                    records[method] = record = measured(student, task, seed, method)
                    print(f"{student} {task} seed {seed} {method}: {record['test']:.3f}", flush=True)
            for method, record in records.items() if len(records) == len(methods) else ():
                runs.setdefault(student, {}).setdefault(method, {}).setdefault(task, []).append(record)
        for task in arguments.tasks if arguments.setfit else ():
            with contextlib.suppress(NotMeasured):
                record = bench.setfit(task, seed)
                setfit.setdefault(task, []).append(record)
                print(f"SetFit {task} seed {seed}: {record['test']:.3f}", flush=True)
    if arguments.measure_only:
        return

    rows: list[list[str]] = []
    targets: list[Target] = []
    latencies = bench.latencies(arguments.students, arguments.tasks[0])
    figures: dict[str, Any] = {"milliseconds": latencies}

    def add(name: str, by_task: dict[str, list[float]], seconds: Sequence[float] = (), model: str = "") -> None:
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else ""
        latency = f"{latencies[model]:.1f}" if model else ""
        rows.append([name, *map(percent, by_task.values()), f"{overall(by_task):.1f}", minutes, latency])
        figures[name] = by_task

    tfidf = baselines(argparse.Namespace(data=arguments.data, tasks=arguments.tasks))["tfidf"]
    add("TF-IDF + logistic regression", {task: [found["test"]] for task, found in tfidf.items()})
    teacher = column(runs[arguments.students[0]][methods[0]], "teacher")
    add("the teacher", teacher, model="teacher")
    for student in arguments.students:
        name, own = Path(student).name, runs[student]
        ours = own[arguments.methods[-1]]
        add(f"{name}, plain, best of Θ", column(ours, "plain"), model=name)
        for method, found in own.items():
            seconds = [record["seconds"] for records in found.values() for record in records]
            add(f"{name}, {method}", column(found, "test"), seconds, name)
        gains = [100 * statistics.mean(r["test"] - r["plain"] for r in records) for records in ours.values()]
        score = overall(column(ours, "test"))
        targets.append(Target(f"{name}: points above plain, mean", statistics.mean(gains), ">=", 3.0))
        targets.append(Target(f"{name}: points above plain, worst task", min(gains), ">=", -1.0))
        if DISTILLED in own:
            rival = overall(column(own[DISTILLED], "test"))
            targets.append(Target(f"{name}: points above plain distillation", score - rival, ">=", 0.0))
        if "MiniLM" in name:
            targets.append(Target(f"{name}: % of the teacher", 100 * score / overall(teacher), ">=", 95.0))
            if setfit:
                rival = overall(column(setfit, "test"))
                targets.append(Target(f"{name}: points above SetFit", score - rival, ">=", 0.0))
    if setfit:
        name = Path(arguments.setfit).name
        seconds = [record["seconds"] for records in setfit.values() for record in records]
        add(f"{name}, SetFit", column(setfit, "test"), seconds, name if name in latencies else "")
    teaches = "with logistic regression on its frozen embeddings"
    if arguments.fine_tuned:
        teaches += f" or fine-tuned ({', '.join(arguments.fine_tune)}), whichever is better on dev"
    fewer = [
        f"{Path(student).name} on {task}: {len(records)}"
        for student, own in runs.items()
        for task, records in own[methods[0]].items()
        if len(records) < len(arguments.seeds)
    ]
    but = f" (but of {', '.join(fewer)})" if fewer else ""
    about = f"""
        Test accuracy in % with 100 to 300 labels, means over {len(arguments.seeds)} seeds{but}; the teacher is
        {Path(arguments.teacher).name}, {teaches}. Minutes: a core's time
        for a run, median, the teacher's answers to new texts counted. Milliseconds: one text after another in PyTorch.
        SetFit: at most {SETFIT_PAIRS} pairs of texts, {SETFIT_PAIRS_OF_PAIRS} where each text is a pair itself. Plain
        distillation: all unlabelled texts with soft labels, as many passes as Agora's last round, over Θ and other
        seeds, as often as Agora's time allows; the best on dev.
    """
    shown = table(["method", *arguments.tasks, "mean", "minutes", "ms"], rows)
    publish("agora", "Agora", about=about, shown=shown, figures=figures, targets=targets, out=arguments.out)


if __name__ == "__main__":
    main()
