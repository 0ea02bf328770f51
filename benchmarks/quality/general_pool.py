"""A general pool: are texts that Agora chooses from it worth more than texts sampled at random?

    xz -dc ../shared/corpus/messages.txt.xz | shuf -n 400000 > runs/messages.txt  # all of it takes half an hour longer
    bort export --model bort-nano --precision int8 --out runs/nano-int8
    bort index runs/messages.txt --model runs/nano-int8 --out runs/messages
    python -m benchmarks.quality.general_pool --pool runs/messages --teacher runs/all-mpnet-base-v2

The tasks' own pools are not read. Agora takes the texts of the pool that are near its mistakes and classes; plain
distillation takes as many at random. Labels, teacher and stored runs are those of `benchmarks.quality.few_labels`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, publish, table
from benchmarks.quality.few_labels import ALONE, PLAIN, SOURCES, Bench, commits_of, commits_told, flags
from benchmarks.quality.rivals import difference, overall, percent
from benchmarks.quality.scarce import Record

TASKS = ("sst2", "trec", "banking12")
GENERAL, BY_CHANCE = "Agora, general pool", "plain distillation, as many texts of it by chance"
_WHERE_NONE_WAS_LEARNED = 1000
METHODS = (PLAIN, ALONE, BY_CHANCE, GENERAL)
SHOWN = {BY_CHANCE: "plain distillation, as many texts sampled at random"}
"""Names for the page that differ from those of the stored runs."""


class GeneralBench(Bench):
    """Few labels with a pool of arbitrary texts."""

    def _trained(self, method: str, student: str, task: str, seed: int) -> Record:
        if method == GENERAL:
            return self._run(student, task, seed, pool=str(self.arguments.pool))
        if method != BY_CHANCE:
            return super()._trained(method, student, task, seed)
        general = self.record(GENERAL, student, task, seed)
        count = (general and self.texts(general)) or _WHERE_NONE_WAS_LEARNED
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "drawn.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in self._drawn(count, seed)), "utf-8")
            return self._run(student, task, seed, unlabelled=str(file), labelled_by="teacher", teacher_vectors=False)

    def texts(self, record: Record) -> int:
        """How many texts without a human label the last training of a run learned from."""
        taught = record["about"]["last_training"]
        labelled = sum(len(part) for part in self._read(record["key"]["task"])[:2])
        return taught["texts"] - labelled if taught else 0

    def _drawn(self, count: int, seed: int) -> list[str]:
        import numpy as np

        from bort.data.index.search import Index

        index = Index(self.arguments.pool)
        return index.texts(np.random.default_rng(seed).permutation(len(index))[:count])


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seeds = "one seed"
    if len(settings.seeds) > 1:
        seeds = f"means over {len(settings.seeds)} seeds, with standard errors over the seeds for these tasks"
    about = f"""
        Test scores in %, {seeds}, {settings.students[0]}. The pool: {figures["texts"]:,} texts of {settings.pool_name},
        none from the tasks. Labels (train and dev, the same for all) and teacher as in the comparison with few labels.
        Texts: mean number of texts without a human label, found or generated, that the last training learned from.
        {commits_told(figures.get("commits", {}))}
    """
    tests = {row["method"]: row["test"] for row in figures["rows"]}
    rows = [
        [
            SHOWN.get(row["method"], row["method"]),
            *(percent(row["test"][task]) for task in settings.tasks),
            f"{overall(row['test']):.1f}",
            f"{row['texts']:,.0f}" if row["texts"] else "",
        ]
        for row in figures["rows"]
    ]
    best = max((tests[name] for name in (PLAIN, ALONE)), key=overall)
    targets = []
    for what, other, least in (
        ("the best method without a pool", best, 2.0),
        (SHOWN[BY_CHANCE], tests[BY_CHANCE], 0.0),
    ):
        points, error = difference(tests[GENERAL], other)
        targets.append(Target(f"Agora with the general pool: points above {what}", points, ">=", least, error=error))
    return Shown(about, table(["method", *settings.tasks, "mean", "texts"], rows), tuple(targets))


BENCHMARK = Benchmark(
    name="general_pool",
    page="agora",
    title="Agora with a general pool",
    question="Are texts that Agora chooses from a general pool worth more than texts sampled at random?",
    sources=(*SOURCES, "src/bort/agora/general_pool.py"),
    show=show,
)


def main() -> None:
    made = flags(__doc__, TASKS)
    made.add_argument("--pool", type=Path, required=True, help="an index made by bort index")
    made.add_argument("--pool-name", default="short messages, questions, reviews, posts and headlines")
    arguments = made.parse_args()
    [student] = arguments.students
    bench = GeneralBench(arguments)
    found: dict[str, dict[str, list[Record]]] = {method: {} for method in METHODS}
    for seed, task in itertools.product(arguments.seeds, arguments.tasks):
        for method in (PLAIN, ALONE, GENERAL, BY_CHANCE):
            record = bench.record(method, student, task, seed)
            if record is None:
                raise SystemExit(f"{task} seed {seed} {method} has not been measured")
            found[method].setdefault(task, []).append(record)
            print(f"{task} seed {seed} {method}: {record['test']:.4f}, {record['seconds']} s", flush=True)
    if arguments.measure_only:
        return
    from bort.data.index.search import Index

    rows = [
        {
            "method": method,
            "test": {task: [record["test"] for record in records] for task, records in by_task.items()},
            "texts": statistics.mean(bench.texts(record) for records in by_task.values() for record in records),
        }
        for method, by_task in found.items()
    ]
    commits = commits_of(record for by_task in found.values() for records in by_task.values() for record in records)
    publish(BENCHMARK, {"rows": rows, "texts": len(Index(arguments.pool)), "commits": commits}, arguments)


if __name__ == "__main__":
    main()
