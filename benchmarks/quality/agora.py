"""Few labels: Agora against plain fine-tuning, its teacher, plain distillation, SetFit and TF-IDF.

    python -m benchmarks.quality.agora --students bort-nano runs/all-MiniLM-L6-v2 --teacher runs/all-mpnet-base-v2

Each task is a folder with train, dev, test and unlabelled.jsonl. Everything is to be chosen on dev; test is scored
once. The teacher is a frozen encoder with logistic regression, or that encoder fine-tuned (--fine-tuned) where that is
better on dev. Finished runs are kept in results/agora.jsonl. Their key is data, weights, seed and settings, but not
this package's code: after a change use --fresh. The teacher's vectors are kept in --vectors. SetFit wants `pip install
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

from benchmarks.common import Benchmark, Shown, Target, publish, table
from benchmarks.quality.agora_runs import (
    DISTILLED,
    METHODS,
    SETFIT,
    SETFIT_PAIRS,
    SETFIT_PAIRS_OF_PAIRS,
    Bench,
    NotMeasured,
    column,
    difference,
    options,
    overall,
    percent,
)
from benchmarks.quality.scarce import TASKS, Cache, Record, baselines, parts_of

OURS, TEACHER, PLAIN = "Agora", "the teacher", "plain, best of Θ"
FOOTNOTE = (
    r"\* The pool size was chosen by test figures of the same tasks. The next table has the development data's choice."
)


def named(row: dict[str, Any]) -> str:
    """Student and method."""
    mark = r"\*" if row["chosen_by_test"] else ""
    return f"{row['student']}, {row['method']}{mark}" if row["student"] else str(row["method"])


def pools(figures: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The sizes of the pool's share that were tried, by student, and the one that the development data choose."""
    rows: list[list[str]] = []
    chosen: dict[str, str] = {}
    for student, sizes in figures["pools"].items():
        common = [task for task in next(iter(sizes.values())) if all(task in of for of in sizes.values())]
        means = {
            size: [overall({task: of[task][part] for task in common}) for part in ("dev", "test")]
            for size, of in sizes.items()
        }
        chosen[student] = max(means, key=lambda size: means[size][0])
        for size, (dev, test) in means.items():
            by = "chosen by dev" if size == chosen[student] else ""
            rows.append([student, size, ", ".join(common), f"{dev:.1f}", f"{test:.1f}", by])
        rival = overall({task: figures["distilled"][student][task] for task in common})
        rows.append([student, DISTILLED, ", ".join(common), "", f"{rival:.1f}", ""])
    return table(["student", "pool texts a mistake", "tasks", "dev mean", "test mean", ""], rows), chosen


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    sizes = figures["sizes"]
    train, dev = (statistics.mean(of[part] for of in sizes.values()) for part in ("train", "dev"))
    teaches = "with logistic regression on its frozen embeddings"
    if settings.fine_tuned:
        teaches += f" or fine-tuned ({', '.join(settings.fine_tune)}), whichever is better on dev"
    about = f"""
        Test accuracy in %, means over {len(settings.seeds)} seeds; the teacher is {Path(settings.teacher).name},
        {teaches}. Labels: those that a method trains on, and those that it sees besides: development labels choose its
        settings, and Agora makes new texts near the mistakes on them. Minutes: CPU time of a run on one core, median,
        with the teacher's answers to new texts. Milliseconds: one text after another in PyTorch. SetFit: at most
        {SETFIT_PAIRS} pairs of texts, {SETFIT_PAIRS_OF_PAIRS} where each text is a pair itself. Plain distillation: all
        unlabelled texts with soft labels, as many epochs as Agora's last round, over Θ and other seeds, as often as
        Agora's time allows; the best on dev. ± is the standard error of the differences of the same task and seed; a
        difference within it of its bound is called level.
    """
    rows = []
    for row in figures["rows"]:
        tests, seconds = row["test"], row["seconds"]
        latency = figures["milliseconds"].get("teacher" if row["method"] == TEACHER else row["student"])
        rows.append(
            [
                named(row),
                f"{train:.0f} + {dev if row['sees_dev'] else 0:.0f}",
                *(percent(tests[task]) for task in settings.tasks),
                f"{overall(tests):.1f}",
                f"{statistics.median(seconds) / 60:.1f}" if seconds else "",
                f"{latency:.1f}" if latency else "",
            ]
        )
    shown = table(["method", "labels", *settings.tasks, "mean", "minutes", "ms"], rows)
    pool, chosen = pools(figures)
    body = [shown, FOOTNOTE, "How many pool texts to take for each mistake:", pool]
    return Shown(about, "\n\n".join(body), tuple(targets_of(figures, chosen)))


def targets_of(figures: dict[str, Any], chosen: dict[str, str]) -> list[Target]:
    """What was to be reached, by student."""
    by_name = {(row["student"], row["method"]): row["test"] for row in figures["rows"]}
    targets: list[Target] = []
    for row in figures["rows"]:
        if row["method"] != OURS:
            continue
        student, ours = row["student"], row["test"]
        name = student + (r"\*" if row["chosen_by_test"] else "")
        plain = by_name[student, PLAIN]
        gain, error = difference(ours, plain)
        worst = min((difference({task: ours[task]}, {task: plain[task]}) for task in ours), key=lambda pair: pair[0])
        targets.append(Target(f"{name}: points above plain, mean", gain, ">=", 3.0, error=error))
        targets.append(Target(f"{name}: points above plain, worst task", worst[0], ">=", -1.0, error=worst[1]))
        if rival := by_name.get((student, DISTILLED)):
            ahead, error = difference(ours, rival)
            targets.append(Target(f"{name}: points above plain distillation", ahead, ">=", 0.0, error=error))
            if row["chosen_by_test"]:
                of = {task: found["test"] for task, found in figures["pools"][student][chosen[student]].items()}
                ahead, error = difference(of, {task: rival[task] for task in of})
                what = f"{student}, pool size {chosen[student]} as dev chooses, on {', '.join(of)}: points above"
                targets.append(Target(f"{what} plain distillation", ahead, ">=", 0.0, error=error))
        if "MiniLM" in student:
            share = 100 * overall(ours) / overall(by_name["", TEACHER])
            targets.append(Target(f"{name}: % of the teacher", share, ">=", 95.0))
            if rival := by_name.get((student, SETFIT)):
                ahead, error = difference(ours, rival)
                what = f"{name}: points above SetFit, which sees no development labels"
                targets.append(Target(what, ahead, ">=", 0.0, error=error))
    return targets


BENCHMARK = Benchmark(
    name="agora",
    page="agora",
    title="Agora and its rivals",
    question="What does Agora bring with 100 to 300 labels, beside its rivals?",
    sources=("src/bort/agora", "src/bort/finetuning", "src/bort/predict/sentence_encoder.py"),
    show=show,
)


def arguments_of() -> argparse.Namespace:
    made = options(__doc__)
    made.add_argument("--students", nargs="+", default=["bort-nano"])
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--methods", nargs="+", default=list(METHODS), help="the last one is held to the targets")
    made.add_argument("--rivals", nargs="*", default=[DISTILLED], help="what else to train of each student")
    made.add_argument("--setfit", help="folder of the encoder that SetFit trains")
    made.add_argument("--only-kept", action="store_true", help="make no runs, leave out seeds that are not kept")
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

    tfidf = baselines(argparse.Namespace(data=arguments.data, tasks=arguments.tasks))["tfidf"]
    figures = collected(runs, setfit, {task: [found["test"]] for task, found in tfidf.items()}, arguments)
    figures["milliseconds"] = bench.latencies(arguments.students, arguments.tasks[0])
    figures["pools"] = pool_sizes(bench.cache.records)
    publish(BENCHMARK, figures, arguments)


def collected(
    runs: dict[str, dict[str, dict[str, list[Record]]]],
    setfit: dict[str, list[Record]],
    tfidf: dict[str, list[float]],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The rows of the comparison, and how large the tasks are."""

    def row(student: str, method: str, test: dict[str, list[float]], seconds: Sequence[float] = ()) -> dict[str, Any]:
        # The larger share of the pool was taken for MiniLM because of its test figures.
        marked = {"sees_dev": method != SETFIT, "chosen_by_test": method == OURS and "MiniLM" in student}
        return {"student": student, "method": method, "test": test, "seconds": list(seconds), **marked}

    first = runs[next(iter(runs))][arguments.methods[0]]
    rows = [row("", "TF-IDF + logistic regression", tfidf), row("", TEACHER, column(first, "teacher"))]
    distilled = {}
    for folder, own in runs.items():
        student = Path(folder).name
        rows.append(row(student, PLAIN, column(own[arguments.methods[-1]], "plain")))
        for method, found in own.items():
            seconds = [record["seconds"] for records in found.values() for record in records]
            rows.append(row(student, method, column(found, "test"), seconds))
        if DISTILLED in own:
            distilled[student] = column(own[DISTILLED], "test")
    if setfit:
        seconds = [record["seconds"] for records in setfit.values() for record in records]
        rows.append(row(Path(arguments.setfit).name, SETFIT, column(setfit, "test"), seconds))
    sizes = {
        task: {
            part: len(file.read_text("utf-8").splitlines()) for part, file in parts_of(arguments.data / task).items()
        }
        for task in arguments.tasks
    }
    return {"rows": rows, "sizes": sizes, "distilled": distilled}


def pool_sizes(records: Sequence[Record]) -> dict[str, dict[str, dict[str, dict[str, list[float]]]]]:
    """Development and test accuracies of kept runs that differ in the pool texts a mistake alone, by student, number,
    task and part."""
    found: dict[str, dict[str, dict[str, dict[int, Record]]]] = {}
    usual = {"learning_rates", "max_epochs", "grown_epochs", "unlabelled", "unlabelled_per_mistake"}
    for record in records:
        key = record["key"]
        if key["settings"].get("unlabelled") and key["settings"].keys() <= usual:
            of_size = found.setdefault(key["student"], {}).setdefault(
                str(key["settings"]["unlabelled_per_mistake"]), {}
            )
            of_size.setdefault(key["task"], {})[key["seed"]] = record
    return {
        student: {
            size: {
                task: {part: [record[part] for _, record in sorted(of.items())] for part in ("dev", "test")}
                for task, of in by_task.items()
            }
            for size, by_task in sorted(sizes.items(), key=lambda item: int(item[0]))
        }
        for student, sizes in found.items()
    }


if __name__ == "__main__":
    main()
