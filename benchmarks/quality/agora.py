"""Few labels: Agora against plain fine-tuning, its teacher, plain distillation, SetFit and TF-IDF.

    python -m benchmarks.quality.agora --students bort-nano runs/all-MiniLM-L6-v2 --teacher runs/all-mpnet-base-v2

Each task is a folder with train, dev, test and unlabelled.jsonl. Everything is chosen on dev; test is scored once. The
teacher is a frozen encoder with logistic regression. Finished runs are kept in results/agora.jsonl, known by their
data, weights, seed and settings, but not by this package's code: after a change use --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import Target, parser, publish, table
from benchmarks.quality.scarce import TASKS, Cache, Record, baselines, parts_of, sha256

GRIDS: dict[str, dict[str, Any]] = {
    "bort-nano": {"learning_rates": [1e-3, 3e-4], "batch_sizes": [16, 32]},
    "all-MiniLM-L6-v2": {"learning_rates": [2e-4, 1e-4], "max_epochs": 12, "patience": 4},
}
"""Θ and epochs by the folder's name of a student."""
PUBLISHED: dict[str, Any] = {"labels": "hard", "prune": "lcs", "points_per_mistake": 8}
IMPROVED: dict[str, Any] = {"unlabelled": True}
METHODS: dict[str, dict[str, Any]] = {
    "Agora as published": PUBLISHED,
    "Agora": IMPROVED,
    "Agora, hard labels": {**IMPROVED, "labels": "hard"},
    "Agora, no unlabelled texts": {"points_per_mistake": 8},
    "Agora, unlabelled texts only": {**IMPROVED, "points_per_mistake": 0, "unlabelled_per_mistake": 12},
    "Agora, halving": {**IMPROVED, "prune": "halving"},
    "Agora, replay 1": {**IMPROVED, "replay": 1},
    "Agora, warm starts": {**IMPROVED, "warm_start": True},
    **{
        f"Agora, {name} only": {"points_per_mistake": 8, "transforms": [name]}
        for name in ("infill", "synonym", "swap", "delete", "typo")
    },
}
"""What differs from the defaults of `bort finetune`. The first two are the comparison, the others the ablation."""
DISTILLED = "plain distillation over all unlabelled texts"


@dataclass
class Bench:
    """Tasks, students and a teacher, and what has been measured."""

    arguments: argparse.Namespace
    cache: Cache
    teachers: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def embedding(self) -> Any:
        """The teacher's encoder, shared by all runs, so that it reads each text once."""
        from bort.agora.vectors import Embedding

        return Embedding(self.arguments.teacher)

    def teacher(self, task: str) -> Any:
        """Probabilities of each label, by logistic regression on the teacher's embeddings."""
        if task not in self.teachers:
            import numpy as np

            from bort.agora.teachers import HeadTeacher
            from bort.data.examples import Example
            from bort.training.splits import read_splits

            data = read_splits(self.settings("bort-nano", task, 0, ""))
            head = HeadTeacher(self.embedding, data)

            def teacher(texts: Sequence[str | tuple[str, str]]) -> list[dict[str, float]]:
                examples = [Example(text) if isinstance(text, str) else Example(*text) for text in texts]
                return [dict(zip(data.task.names, row, strict=True)) for row in np.exp(head(examples)).tolist()]

            self.teachers[task] = teacher
        return self.teachers[task]

    def key(self, student: str, task: str, seed: int, method: str, **settings: Any) -> Record:
        from bort.model.checkpoints import locate

        files = [*parts_of(self.arguments.data / task).values(), self.arguments.data / task / "unlabelled.jsonl"]
        return {
            "student": Path(student).name,
            "weights": sha256(Path(locate(student)) / "model.safetensors"),
            "teacher": Path(self.arguments.teacher).name,
            "task": task,
            "data": sha256(*files),
            "seed": seed,
            "method": method,
            "settings": settings,
        }

    def settings(self, student: str, task: str, seed: int, out: str, **settings: Any) -> Any:
        import bort
        from bort.data.examples import label_names, read_examples

        files = parts_of(self.arguments.data / task)
        if settings.get("unlabelled") is True:
            settings["unlabelled"] = str(self.arguments.data / task / "unlabelled.jsonl")
        return bort.FinetuneArguments(
            **{part: str(file) for part, file in files.items()},
            model=student,
            out=out,
            classes=label_names([e for file in files.values() for e in read_examples(file)]),
            seeds=[seed],
            seed=seed,
            **GRIDS[Path(student).name] | settings,
        )

    def agora(self, student: str, task: str, seed: int, method: str) -> Record:
        """A run, from the cache or made now."""
        from bort.agora.finetune import finetune

        key = self.key(student, task, seed, method, **GRIDS[Path(student).name], **METHODS[method])
        record = self.cache.get(key)
        if record is None:
            with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
                out, started = str(Path(scratch) / "run"), time.perf_counter()
                chosen = self.settings(student, task, seed, out, **METHODS[method])
                metrics = finetune(chosen, teacher=self.teacher(task), embedding=self.embedding)
            record = {
                "key": key,
                "test": metrics["test"]["accuracy"],
                "dev": metrics["dev"]["accuracy"],
                "plain": metrics["plain"]["test"]["accuracy"],
                "teacher": metrics["teacher"]["test"]["accuracy"],
                "rounds": metrics["rounds"],
                "seconds": round(time.perf_counter() - started, 1),
            }
            self.cache.add(record)
        return record

    def distilled(self, student: str, task: str, seed: int) -> Record:
        """The student trained once for each combination on all unlabelled texts with the teacher's soft labels."""
        key = self.key(student, task, seed, DISTILLED, **GRIDS[Path(student).name])
        record = self.cache.get(key)
        if record is None:
            record = {"key": key, **self._distil(student, task, seed)}
            self.cache.add(record)
        return record

    def _distil(self, student: str, task: str, seed: int) -> Record:
        import numpy as np

        from bort.agora.teachers import HeadTeacher
        from bort.data.examples import read_examples
        from bort.training.finetune import grid
        from bort.training.fitter import Fitter
        from bort.training.splits import read_splits

        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            arguments = self.settings(student, task, seed, str(Path(scratch) / "run"))
            data = read_splits(arguments)
            teacher = HeadTeacher(self.embedding, data)
            pool = read_examples(self.arguments.data / task / "unlabelled.jsonl", labelled=False)
            started = time.perf_counter()
            fitter = Fitter(arguments, data.task, data.train)
            certain = np.eye(data.task.outputs, dtype=np.float32)[data.task.targets(data.train)]
            soft = np.exp(teacher(pool)).astype(np.float32)
            train = fitter.labelled([*data.train, *pool], np.vstack([certain, soft]))
            dev, test = fitter.labelled(data.dev), fitter.labelled(data.test or [])
            best: Record = {}
            for theta in grid(arguments):
                model, result = fitter.fit(theta, train, dev, folder=Path(scratch) / "trial")
                if not best or result.score > best["dev"]:
                    score = fitter.score(model, test)["accuracy"].value
                    best = {"dev": result.score, "test": score}
            return best | {"seconds": round(time.perf_counter() - started, 1)}


def percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--students", nargs="+", default=["bort-nano"])
    made.add_argument("--teacher", required=True, help="folder of the encoder that becomes the teacher")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--methods", nargs="+", default=list(METHODS)[:2])
    made.add_argument("--fresh", action="store_true", help="forget the finished runs")
    made.add_argument("--measure_only", action="store_true", help="fill results/agora.jsonl, publish nothing")
    arguments = made.parse_args()
    bench = Bench(arguments, Cache(arguments.out / "results" / "agora.jsonl", fresh=arguments.fresh))

    rows: list[list[str]] = []
    targets: list[Target] = []
    figures: dict[str, Any] = {}

    def add(name: str, by_task: dict[str, list[float]], seconds: Sequence[float]) -> None:
        mean = statistics.mean(statistics.mean(values) for values in by_task.values())
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else ""
        rows.append([name, *map(percent, by_task.values()), f"{100 * mean:.1f}", minutes])
        figures[name] = by_task

    tfidf = baselines(argparse.Namespace(data=arguments.data, tasks=arguments.tasks))["tfidf"]
    add("TF-IDF + logistic regression", {task: [found["test"]] for task, found in tfidf.items()}, [])
    for student in arguments.students:
        name = Path(student).name
        runs: dict[str, dict[str, list[Record]]] = {}
        for method in [*arguments.methods, DISTILLED]:
            for task in arguments.tasks:
                for seed in arguments.seeds:
                    one = bench.distilled(student, task, seed) if method == DISTILLED else None
                    record = one or bench.agora(student, task, seed, method)
                    runs.setdefault(method, {}).setdefault(task, []).append(record)
                    print(f"{name} {task} seed {seed} {method}: {record['test']:.3f}", flush=True)
        first = runs[arguments.methods[0]]
        add("the teacher", {task: [r["teacher"] for r in found] for task, found in first.items()}, [])
        add(f"{name}, plain", {task: [r["plain"] for r in found] for task, found in first.items()}, [])
        for method, found in runs.items():
            seconds = [record["seconds"] for records in found.values() for record in records]
            add(f"{name}, {method}", {task: [r["test"] for r in records] for task, records in found.items()}, seconds)
        gains = {
            task: 100 * (statistics.mean(r["test"] for r in rs) - statistics.mean(r["plain"] for r in rs))
            for task, rs in runs[arguments.methods[-1]].items()
        }
        targets.append(Target(f"{name}: points above plain, mean", statistics.mean(gains.values()), ">=", 3.0))
        targets.append(Target(f"{name}: points above plain, worst task", min(gains.values()), ">=", -1.0))
    if arguments.measure_only:
        return
    about = f"""
        Test accuracy in % with 100 to 300 labels, means over {len(arguments.seeds)} seeds; the teacher is
        {Path(arguments.teacher).name} with logistic regression on its frozen embeddings. The last column is the median
        of the minutes of a run, the teacher's answers counted.
    """
    shown = table(["method", *arguments.tasks, "mean", "minutes"], rows)
    publish("agora", "Agora", about=about, shown=shown, figures=figures, targets=targets, out=arguments.out)


if __name__ == "__main__":
    main()
