"""Few labels: Agora and its rivals, all with the same labels.

    python -m benchmarks.quality.few_labels --students bort-nano runs/all-MiniLM-L6-v2 --teacher runs/all-mpnet-base-v2

Each task is a folder with train, dev, test and unlabelled.jsonl. In the end, every method trains on train and dev
together; test is scored once. Finished runs are stored in results/few_labels.jsonl by code, data, weights, seed and
method, and an interrupted benchmark continues from there. The teacher's vectors are cached in --vectors. SetFit is
skipped if it is not installed. --static names model2vec folders, distilled with its own library. The seconds of a
stored run are null if other work ran beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.fingerprints import ROOT
from benchmarks.quality.rivals import (
    Scores,
    difference,
    kept_embedding,
    latencies,
    overall,
    paired,
    percent,
    seeds_of,
    seeds_told,
    setfit_accuracy,
    static_accuracy,
)
from benchmarks.quality.scarce import TASKS, Cache, Record, parts_of, sha256

SOURCES = ("src/bort/agora", "src/bort/finetuning", "src/bort/predict", "src/bort/data")
TFIDF, TEACHER, HEAD = "TF-IDF + logistic regression", "the teacher", "linear head"
STATIC, SETFIT, SETFIT_DISTILLED = "model2vec with its own classifier", "SetFit", "SetFit's distillation"
PLAIN, DISTILLED, ALONE, AGORA = "plain fine-tuning", "plain distillation", "Agora without a pool", "Agora"
TRAINED: dict[str, dict[str, Any]] = {
    PLAIN: {"rounds": 1},  # and the last training on all labels
    DISTILLED: {"unlabelled": True, "labelled_by": "teacher", "teacher_vectors": False},
    ALONE: {},
    AGORA: {"unlabelled": True},
}
"""Changes to the defaults of `bort finetune`."""
RIVALS = (TFIDF, TEACHER, STATIC, HEAD, SETFIT, SETFIT_DISTILLED)
METHODS = (*RIVALS, *TRAINED)
SEEDLESS = (TFIDF, TEACHER, HEAD)
"""Methods that give the same model with each seed, so that they are measured once."""
SETFIT_PAIRS = 4000
LEAST = {"bort-nano": 80.0, "all-MiniLM-L6-v2": 82.0}
"""Target means with a pool, in %."""


class Bench:
    """Tasks, students and a teacher, and what has been measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.cache = Cache(arguments.out / "results" / "few_labels.jsonl", fresh=arguments.fresh)

    @cached_property
    def code(self) -> str:
        """The last commit that changed what the figures depend on."""
        line = ["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--", *SOURCES]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    @cached_property
    def embedding(self) -> Any:
        """The teacher's encoder, shared by all runs, so that it reads each text once."""
        return kept_embedding(self.arguments.teacher, self.arguments.vectors)

    def record(self, method: str, student: str, task: str, seed: int) -> Record | None:
        """A run, from the cache or measured now; None if it is not there and must not be measured."""
        from bort.model.checkpoints import locate

        folder = self.arguments.data / task
        weights = sha256(Path(locate(student)) / "model.safetensors") if method not in (TFIDF, TEACHER) else ""
        key = {
            "method": method,
            "student": Path(student).name if weights else "",
            "weights": weights,
            "teacher": Path(self.arguments.teacher).name,
            "task": task,
            "data": sha256(*parts_of(folder).values(), folder / "unlabelled.jsonl"),
            "seed": seed,
            "code": self.code,
        }
        codes = [self.code, *self.arguments.also]
        found = next((known for code in codes if (known := self.cache.get(key | {"code": code}))), None)
        if found is None and not self.arguments.publish_only:
            began = time.perf_counter()
            found = {"key": key, **self._measured(method, student, task, seed)}
            found["seconds"] = round(time.perf_counter() - began, 1)
            self.cache.add(found)
            if "embedding" in self.__dict__:
                self.embedding.keep()
        return found

    def _measured(self, method: str, student: str, task: str, seed: int) -> Record:
        if method not in RIVALS:
            return self._trained(method, student, task, seed)
        train, dev, test = self._read(task)
        if method == STATIC:
            return {"test": static_accuracy(student, [*train, *dev], test, seed)}
        if method == SETFIT:
            return {"test": setfit_accuracy(student, [*train, *dev], test, seed, SETFIT_PAIRS)}
        if method == SETFIT_DISTILLED:
            more = {"teacher": self.arguments.teacher, "pool": self._unlabelled(task)}
            return {"test": setfit_accuracy(student, [*train, *dev], test, seed, SETFIT_PAIRS, **more)}
        if method == TFIDF:
            from bort.tasks.baselines import tfidf

            chosen = tfidf(train, dev, test)
            return {"test": tfidf([*train, *dev], dev, test, inverse_regularisations=(chosen["C"],))["test"]}
        return {"test": self._head(self.arguments.teacher if method == TEACHER else student, task)}

    def _pool(self, task: str) -> str:
        return str(self.arguments.data / task / "unlabelled.jsonl")

    def _read(self, task: str) -> list[list[Any]]:
        from bort.data.tables.examples import read_examples

        return [read_examples(file) for file in parts_of(self.arguments.data / task).values()]

    def _unlabelled(self, task: str) -> list[Any]:
        from bort.data.tables.examples import read_examples

        return read_examples(self._pool(task), labelled=False)

    def _settings(self, student: str, task: str, seed: int, out: str, **settings: Any) -> Any:
        import bort
        from bort.data.tables.labels import label_names

        files = parts_of(self.arguments.data / task)
        if settings.get("unlabelled") is True:
            settings["unlabelled"] = self._pool(task)
        return bort.FinetuneArguments(
            **{part: str(file) for part, file in files.items()},
            model=student,
            out=out,
            classes=label_names([example for part in self._read(task) for example in part]),
            teacher=self.arguments.teacher,
            seeds=[seed],
            seed=seed,
            **settings,
        )

    def _trained(self, method: str, student: str, task: str, seed: int) -> Record:
        return self._run(student, task, seed, **TRAINED[method])

    def _run(self, student: str, task: str, seed: int, **changes: Any) -> Record:
        from bort.agora.run import finetune

        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            settings = self._settings(student, task, seed, str(Path(scratch) / "run"), **changes)
            metrics = finetune(settings, embedding=self.embedding)
        metric = metrics["metric"]
        kept = ("best_theta", "best_round", "label_weights", "labels_used", "last_training", "seconds")
        about = {name: metrics.get(name) for name in kept}
        return {"test": metrics["test"][metric], "dev": metrics["dev"][metric], "about": about}

    def _head(self, encoder: str, task: str) -> float:
        """Test score of a linear head on frozen vectors, fitted to all labels."""
        from bort.agora.labellers import HeadTeacher, judged
        from bort.agora.nearby import Embedding
        from bort.finetuning.splits import read_splits

        with contextlib.redirect_stdout(io.StringIO()):
            data = read_splits(self._settings("bort-nano", task, 0, ""))
        embedding = self.embedding if encoder == self.arguments.teacher else Embedding(encoder)
        head = HeadTeacher(embedding, data.task, [*data.train, *data.dev])
        test = data.test or []
        return judged(data.task, head(test), data.task.targets(test))


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    rows = {", ".join(filter(None, (row["student"], row["method"]))): row for row in figures["rows"]}
    seeds = seeds_told({name: seeds_of(row["test"]) for name, row in rows.items() if row["method"] not in SEEDLESS})
    about = f"""
        Test scores in %. {seeds}; linear heads and TF-IDF need none. Errors of differences are standard errors over the
        seeds, for these tasks. All methods get the same labels, train and dev. The teacher is
        {Path(settings.teacher).name} with a linear head. Plain distillation is Agora with only the teacher's labels,
        and without its vectors. Minutes: median wall-clock time of a run. SetFit: at most {SETFIT_PAIRS} text pairs.
        Milliseconds: median per text of {settings.tasks[0]}, one at a time, exported in fp32 to ONNX Runtime, two
        threads.
    """
    about += commits_told(figures.get("commits", {}))
    if left := [task for task in TASKS if task not in settings.tasks]:
        about += f" Not measured yet: {', '.join(left)}."
    cells = [
        [
            name,
            *(percent(row["test"][task]) if task in row["test"] else "" for task in settings.tasks),
            f"{overall(row['test']):.1f}" if {*row["test"]} == {*settings.tasks} else "",
            f"{statistics.median(row['seconds']) / 60:.1f}" if row["seconds"] else "",
            f"{ms:.2f}" if (ms := figures["milliseconds"].get(row["student"])) and row["method"] != STATIC else "",
        ]
        for name, row in rows.items()
    ]
    shown = table(["method", *settings.tasks, "mean", "minutes", "ms"], cells)
    return Shown(about, shown, tuple(_targets(figures["rows"])))


def _targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    by_name = {(row["student"], row["method"]): row["test"] for row in rows}
    targets: list[Target] = []
    for student in dict.fromkeys(row["student"] for row in rows if row["student"]):
        ours = by_name.get((student, AGORA))
        if ours is None:
            continue
        if student in LEAST and {*ours} == {*TASKS}:
            targets.append(Target(f"{student}: mean with a pool", overall(ours), ">=", LEAST[student], " %"))
        for rival, least in ((DISTILLED, 1.0), (HEAD, 2.0), (PLAIN, 0.0)):
            theirs = by_name.get((student, rival), {})
            if {*theirs} >= {*ours} and all(paired(ours, theirs).values()):
                points, error = difference(ours, theirs)
                what = f"{student}, Agora with a pool: points above {rival}"
                if {*ours} != {*TASKS}:
                    what += f" on {', '.join(ours)}"
                targets.append(Target(what, points, ">=", least, error=error))
                if error is not None:
                    what = f"{student}, Agora with a pool: tasks where it is below {rival} by more than the error"
                    targets.append(Target(what, len(_worse(ours, theirs)), "<=", 0))
    return targets


def _worse(ours: Scores, theirs: Scores) -> list[str]:
    """Tasks on which some runs are worse than others by more than the standard error over the seeds."""
    by_task = {task: difference({task: ours[task]}, {task: theirs[task]}) for task in ours}
    return [task for task, (points, error) in by_task.items() if points < -(error or 0.0)]


BENCHMARK = Benchmark(
    name="few_labels",
    page="agora",
    title="Agora and its rivals with the same labels",
    question="What does Agora reach when every method gets the same labels?",
    sources=SOURCES,
    show=show,
)


def commits_of(records: Iterable[Record]) -> dict[str, list[str]]:
    """The commits that runs were made with, and the tasks of each."""
    commits: dict[str, list[str]] = {}
    for record in records:
        tasks = commits.setdefault(record["key"]["code"], [])
        tasks += [record["key"]["task"]] * (record["key"]["task"] not in tasks)
    return commits


def commits_told(commits: Mapping[str, Sequence[str]]) -> str:
    """The commits of the runs in words, for the page; empty if they were not stored."""
    if not commits:
        return ""
    of_each = ", ".join(f"{code} ({', '.join(tasks)})" for code, tasks in commits.items())
    told = f" Commits of the runs: {of_each}."
    return f"{told} Runs of earlier commits count where later changes cannot alter them." if len(commits) > 1 else told


def in_order(records: Mapping[int, Record], seeds: Sequence[int]) -> list[float | None]:
    """The test scores of some seeds' runs, in the order of the seeds; None where there is no run."""
    return [records[seed]["test"] if seed in records else None for seed in seeds]


def flags(about: str | None, tasks: Sequence[str]) -> argparse.ArgumentParser:
    """The flags of this benchmark and of those that share its stored runs."""
    made = parser(about)
    made.add_argument("--teacher", required=True, help="folder of the sentence encoder that teaches")
    made.add_argument("--students", nargs="+", default=["bort-nano"])
    made.add_argument("--tasks", nargs="+", default=list(tasks))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--vectors", type=Path, default=Path("runs/few-labels-vectors.npz"))
    made.add_argument(
        "--also", nargs="+", default=[], metavar="COMMIT", help="also use runs of these commits: they hold for this one"
    )
    made.add_argument("--fresh", action="store_true", help="discard the finished runs")
    made.add_argument("--measure-only", action="store_true", help="fill results/few_labels.jsonl, publish nothing")
    made.add_argument("--publish-only", action="store_true", help="publish what has been measured, measure nothing")
    return made


def main() -> None:
    from bort.model.checkpoints import locate

    made = flags(__doc__, TASKS)
    made.add_argument("--static", nargs="+", default=[], metavar="FOLDER", help="model2vec folders")
    made.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = made.parse_args()
    bench = Bench(arguments)
    setfit = arguments.publish_only or importlib.util.find_spec("setfit") is not None
    sentence_encoders = [s for s in arguments.students if setfit and (Path(locate(s)) / "modules.json").is_file()]
    students = dict.fromkeys(METHODS, arguments.students) | {
        TFIDF: arguments.students[:1],
        TEACHER: arguments.students[:1],
        STATIC: arguments.static,
        SETFIT: sentence_encoders,
        SETFIT_DISTILLED: sentence_encoders,
    }
    found: dict[tuple[str, str], dict[str, dict[int, Record]]] = {}
    # Seeds in the outer loop: an interrupted benchmark has complete seeds.
    for seed, task in itertools.product(arguments.seeds, arguments.tasks):
        for method in arguments.methods:
            for student in students[method]:
                record = bench.record(method, student, task, 0 if method in SEEDLESS else seed)
                if record is None:
                    continue
                name = record["key"]["student"]
                found.setdefault((name, method), {}).setdefault(task, {})[seed] = record
                print(f"{name} {task} seed {seed} {method}: {record['test']:.4f}, {record['seconds']} s", flush=True)
    if arguments.measure_only:
        return
    ordered = sorted(found.items(), key=lambda item: (item[0][0], METHODS.index(item[0][1])))
    rows = [
        {
            "student": student,
            "method": method,
            "test": {task: in_order(records, arguments.seeds) for task, records in by_task.items()},
            "seconds": [
                seconds
                for records in by_task.values()
                for record in records.values()
                if (seconds := record["seconds"]) is not None  # other work ran beside it
            ],
        }
        for (student, method), by_task in ordered
    ]
    sizes = {
        task: {part: sum(1 for _ in file.open("rb")) for part, file in parts_of(arguments.data / task).items()}
        for task in arguments.tasks
    }
    test = parts_of(arguments.data / arguments.tasks[0])["test"]
    texts = [json.loads(line)["text"] for line in test.read_text("utf-8").splitlines()[:200]]
    ours = [by_task for (_, method), by_task in found.items() if method in TRAINED]
    figures = {
        "rows": rows,
        "sizes": sizes,
        "commits": commits_of(record for by_task in ours for by in by_task.values() for record in by.values()),
        "milliseconds": latencies(arguments.students, test, texts),
    }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
