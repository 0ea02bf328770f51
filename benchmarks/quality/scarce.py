"""Test accuracy with 100 to 300 labels: plain fine-tuning of a model, random weights, TF-IDF and the majority.

    python -m benchmarks.quality.scarce --data ../shared/data/scarce

Each task is a folder with train, dev and test.jsonl. Learning rates, stopping points and C are chosen on dev; test is
scored once. Finished fits are stored in results/scarce.jsonl, so that an interrupted benchmark continues. The key of a
fit is its data, weights, seed and settings, but not this package's code: after a change use --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, parser, publish, table
from bort.files import write_aside

TASKS = ("sst2", "trec", "banking12", "mrpc", "rte")
RANDOM = "random"
Record = dict[str, Any]


class Cache:
    """Finished work, one JSON object per line. Several processes may add to one file.

    Args:
        path: The file; the first record creates it.
        fresh: Discard its contents.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        self.records = self._kept()

    def _kept(self) -> list[Record]:
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        return [json.loads(line) for line in lines]

    def get(self, key: Record) -> Record | None:
        return next((record for record in self.records if record["key"] == key), None)

    def add(self, record: Record) -> None:
        """Store a record after those that others have stored since; the file is complete at every moment."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.path.parent):
            self.records = [*self._kept(), record]
            with write_aside(self.path) as file:
                file.writelines(json.dumps(known, ensure_ascii=False) + "\n" for known in self.records)

    def once(self, key: Record, work: Callable[[], Record]) -> Record:
        """The record of finished work, stored before or made now."""
        known = self.get(key)
        if known is None:
            known = {"key": key, **work()}
            self.add(known)
        return known


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process has locked the folder, and lock it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sha256(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def save_random(shape: str, folder: Path) -> None:
    """Save a model with the configuration and tokenizer of `shape` and random weights of seed 0."""
    import torch
    from transformers import AutoConfig

    from bort import BortForMaskedLM, load_tokenizer
    from bort.model.checkpoints import locate, save

    source = locate(shape)
    torch.manual_seed(0)
    save(BortForMaskedLM(AutoConfig.from_pretrained(source)), load_tokenizer(source), folder)


def parts_of(task: Path) -> dict[str, Path]:
    return {part: task / f"{part}.jsonl" for part in ("train", "dev", "test")}


def fit(model: Path, task: Path, seed: int, arguments: argparse.Namespace) -> Record:
    """Fine-tune once, in a temporary folder."""
    import bort
    from bort.data.tables.examples import read_examples
    from bort.data.tables.labels import label_names

    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        settings = bort.FinetuneArguments(
            **{part: str(file) for part, file in parts_of(task).items()},
            model=str(model),
            out=str(Path(scratch) / "run"),
            method="plain",
            keep_better=False,
            classes=label_names([e for file in parts_of(task).values() for e in read_examples(file)]),
            learning_rates=arguments.learning_rates,
            batch_sizes=[16],
            seeds=[seed],
            max_epochs=arguments.max_epochs,
            patience=arguments.patience,
        )
        started = time.perf_counter()
        metrics = bort.finetune(settings).metrics
    return {
        "dev": metrics["dev"]["accuracy"],
        "test": metrics["test"]["accuracy"],
        "best_theta": metrics["best_theta"],
        "precision": metrics["precision"],
        "seconds": round(time.perf_counter() - started, 2),
    }


def fits_of(name: str, folder: Path, cache: Cache, arguments: argparse.Namespace) -> dict[str, list[Record]]:
    """The fits of one model by task, from the cache or made now."""
    fits: dict[str, list[Record]] = {}
    fingerprint = sha256(folder / "model.safetensors")
    for task in arguments.tasks:
        for seed in arguments.seeds:
            key = {
                "task": task,
                "model": name,
                "fingerprint": fingerprint,
                "data": sha256(*parts_of(arguments.data / task).values()),
                "seed": seed,
                "learning_rates": arguments.learning_rates,
                "max_epochs": arguments.max_epochs,
                "patience": arguments.patience,
            }
            record = cache.once(key, partial(fit, folder, arguments.data / task, seed, arguments))
            fits.setdefault(task, []).append(record)
            print(f"{name} {task} seed {seed}: dev {100 * record['dev']:.1f} %, {record['seconds']:.0f} s", flush=True)
    return fits


def percent(values: list[float]) -> str:
    """Mean, with the sample's standard deviation where there is more than one value."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def row(label: str, tests: dict[str, list[float]], seconds: list[float]) -> list[str]:
    """A row of the table; the spread of the mean over tasks is over the seeds' means."""
    means = [statistics.mean(of_seed) for of_seed in zip(*tests.values(), strict=True)]
    duration = f"{statistics.median(seconds):.0f}" if seconds else ""
    return [label, *map(percent, tests.values()), percent(means), duration]


def baselines(arguments: argparse.Namespace) -> dict[str, dict[str, Record]]:
    """Development and test accuracy of the methods without a network, by method and task."""
    from bort.data.tables.examples import read_examples
    from bort.tasks.baselines import majority, tfidf

    figures: dict[str, dict[str, Record]] = {"majority": {}, "tfidf": {}}
    for task in arguments.tasks:
        train, dev, test = (read_examples(file) for file in parts_of(arguments.data / task).values())
        figures["majority"][task] = majority(train, dev, test)
        figures["tfidf"][task] = tfidf(train, dev, test)
    return figures


NAMES = {
    "majority": "majority answer",
    "tfidf": "TF-IDF + logistic regression",
    RANDOM: "random weights of the same shape, fine-tuned",
}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    about = f"""
        Test accuracy in % after training on 100 to 300 labels; mean ± standard deviation over {len(settings.seeds)}
        seeds (of the head's weights, the dropout and the order of the data). Fine-tuning is `bort finetune --method
        plain`: learning rates {rates}, at most {settings.max_epochs} epochs, patience {settings.patience}. The 200 to
        300 development labels choose the rate, the stopping point, and C of the logistic regression (1, 10 or 100).
        Random weights are from one seed. The last column is the median wall-clock time of a whole run.
    """
    rows = []
    for name, by_task in figures.items():
        fits = {task: by_task[task] if isinstance(by_task[task], list) else [by_task[task]] for task in settings.tasks}
        tests = {task: [record["test"] for record in records] for task, records in fits.items()}
        seconds = [record["seconds"] for records in fits.values() for record in records if "seconds" in record]
        rows.append(row(NAMES.get(name, f"`{name}`, fine-tuned"), tests, seconds))
    shown = table(["method", *settings.tasks, "mean", "s per run"], rows)
    return Shown(about, shown, figure=f"{rows[-1][0]}: {rows[-1][-2]} %; {rows[1][0]}: {rows[1][-2]} %")


BENCHMARK = Benchmark(
    name="scarce",
    page="nano",
    title="Few labels",
    question="What does plain fine-tuning reach with 100 to 300 labels?",
    sources=("src/bort/finetuning", "src/bort/assets/bort-nano/model.safetensors"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"), help="folder with a folder per task")
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--models", nargs="+", default=[RANDOM, "bort-nano"], help=f"folders, bort-nano, or {RANDOM}")
    made.add_argument("--shape", default="bort-nano", help=f"model whose configuration and tokenizer {RANDOM} uses")
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--learning-rates", nargs="+", type=float, default=[1e-3, 3e-4])
    made.add_argument("--max-epochs", type=int, default=30)
    made.add_argument("--patience", type=int, default=8)
    made.add_argument("--fresh", action="store_true", help="discard the finished fits")
    arguments = made.parse_args()

    from bort.model.checkpoints import locate

    cache = Cache(arguments.out / "results" / "scarce.jsonl", fresh=arguments.fresh)
    figures: dict[str, Any] = dict(baselines(arguments))
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as scratch:
            if model == RANDOM:
                save_random(arguments.shape, Path(scratch))
            name = Path(model).name
            figures[name] = fits_of(name, Path(scratch if model == RANDOM else locate(model)), cache, arguments)
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
