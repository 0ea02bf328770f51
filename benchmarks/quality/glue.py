"""bort-nano on full GLUE and SuperGLUE tasks, with the majority answer and published figures of small BERTs.

    python -m benchmarks.quality.glue --data ../shared/data

`--data` holds the official files: glue/CoLA/train.tsv and so on. Each task is fine-tuned once on all its training data
(SST-2: 10,000 rows); the epochs are chosen so that everything takes about 45 minutes on one core. The development data
choose the step and the rate; test scores are reported if labels are available: MRPC's, and STS-B's in the original
benchmark's file sts-test-labelled.tsv. Finished tasks are stored in results/glue.jsonl. Their key is the model's
weights and the settings, but not this package's code: after a change use --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Benchmark, Shown, parser, publish, table
from benchmarks.quality.nano import weights_of
from benchmarks.quality.scarce import Cache, Record
from bort.tasks.suites.scoring import METRIC_TITLES, official_scores, shown
from bort.tasks.suites.table import TASKS as OFFICIAL

COSINE = "stsb by cosine"

TASKS: dict[str, dict[str, Any]] = {
    "cola": {"max_epochs": 5},
    "sst2": {"max_epochs": 3, "max_train_rows": 10_000},
    "mrpc": {"max_epochs": 4},
    "rte": {"max_epochs": 4},
    "stsb": {"max_epochs": 5},
    "wnli": {"max_epochs": 5},
    "cb": {"max_epochs": 12, "batch_sizes": [16]},
    "copa": {"max_epochs": 10, "batch_sizes": [16]},
    "wsc": {"max_epochs": 8, "batch_sizes": [16]},
}
"""Training settings of each task; batches of 32 unless stated otherwise, inputs of 128 tokens."""
PUBLISHED = {
    "BERT-Tiny (4.4 M)": {
        **{"cola": "0.0", "sst2": "83.2", "mrpc": "81.1/71.1", "stsb": "74.3/73.6"},
        **{"rte": "57.2", "wnli": "62.3"},
    },
    "BERT-Mini (11.3 M)": {
        **{"cola": "0.0", "sst2": "85.9", "mrpc": "81.1/71.8", "stsb": "75.4/73.3"},
        **{"rte": "57.9", "wnli": "62.3"},
    },
}
"""Test scores of the GLUE leaderboard, from the README of google-research/bert (Turc et al. 2019)."""


def with_test_labels(data: Path, folder: Path) -> Path:
    """A copy of STS-B's folder with the original benchmark's scores in the test file, matched pair by pair."""
    source, target = data / "glue/STS-B", folder / "glue/STS-B"
    target.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        shutil.copy(source / name, target)
    labelled = [line.split("\t") for line in (source / "sts-test-labelled.tsv").read_text("utf-8").splitlines()]
    header, *rows = [line.split("\t") for line in (source / "test.tsv").read_text("utf-8").splitlines()]
    for row, known in zip(rows, labelled, strict=True):
        assert [cell.strip() for cell in row[7:9]] == [cell.strip() for cell in known[5:7]], row
        row.append(known[4])
    lines = ["\t".join(row) + "\n" for row in [[*header, "score"], *rows]]
    (target / "test.tsv").write_text("".join(lines), "utf-8")
    return folder


def settings_of(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Training settings of a task."""
    settings = {"batch_sizes": [32], "learning_rates": arguments.learning_rates, "max_length": 128, **TASKS[name]}
    if arguments.max_train_rows is not None:
        settings["max_train_rows"] = min(arguments.max_train_rows, settings.get("max_train_rows", 10**9))
    if arguments.max_epochs is not None:
        settings["max_epochs"] = min(arguments.max_epochs, settings["max_epochs"])
    return settings


def fit(name: str, arguments: argparse.Namespace) -> Record:
    """Fine-tune once in a temporary folder; returns the official scores of the labelled parts."""
    import bort

    with tempfile.TemporaryDirectory() as made, contextlib.redirect_stdout(io.StringIO()):
        scratch, data = Path(made), arguments.data
        if name == "stsb" and (data / "glue/STS-B/sts-test-labelled.tsv").is_file():
            data = with_test_labels(data, scratch / "data")
        started = time.perf_counter()
        metrics = bort.finetune(
            bort.FinetuneArguments(
                task=[name],
                data=str(data),
                out=str(scratch / "run"),
                model=arguments.model,
                method="plain",
                keep_better=False,
                patience=100,
                **settings_of(name, arguments),
            )
        ).metrics
        majority = majority_scores(name, data)
    parts = {part: found["scores"] for part, found in metrics["official"][name].items()}
    seconds = round(time.perf_counter() - started, 1)
    return {"scores": parts, "majority": majority, "rows": metrics["rows"], "seconds": seconds} | {
        "best_theta": metrics["best_theta"],
        "precision": metrics["precision"],
    }


def majority_scores(name: str, data: Path) -> dict[str, dict[str, float]]:
    """Official scores of the training data's most frequent answer; for STS-B, of a constant."""
    from bort.tasks.suites.reading import has_part, is_labelled, read_part

    task, found = OFFICIAL[name], {}
    counts = Counter(row.example.label for row in read_part(task, data, "train", labelled=True))
    answer = max(task.labels, key=lambda label: counts[label]) if task.labels else None
    for part in ("dev", "test"):
        rows = read_part(task, data, part) if has_part(task, data, part) else []
        if rows and is_labelled(rows):
            logits = np.array([[float(label == answer) for label in task.labels] or [2.5]] * len(rows), np.float32)
            scores = official_scores(task, rows, logits, resamples=0)
            found[part] = {metric: score.value for metric, score in scores.items()}
    return found


def by_cosine(model: str, data: Path) -> dict[str, float]:
    """STS-B's development data by the cosine of the frozen encoder's pooled vectors: nothing is fitted."""
    from bort.agora.nearby import Embedding
    from bort.tasks.suites.reading import read_part

    rows = read_part(OFFICIAL["stsb"], data, "dev")
    embedding = Embedding(model)
    a = embedding.texts([row.example.text for row in rows])
    b = embedding.texts([row.example.text_b or "" for row in rows])
    cosines = (a * b).sum(-1, keepdims=True)
    scores = official_scores(OFFICIAL["stsb"], rows, 5 * np.clip(cosines, 0, 1), resamples=0)
    return {metric: score.value for metric, score in scores.items()}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    epochs = [settings_of(name, settings)["max_epochs"] for name in settings.tasks]
    about = f"""
        `bort finetune --task ... --method plain` of {Path(settings.model).name} on all training data of each task
        (SST-2: 10,000 rows), one seed (n = 1), learning rate {rates}, {min(epochs)} to {max(epochs)} epochs. Official
        metrics in %. The development data choose the step that is kept, so scores on them are optimistic; the test data
        choose nothing. The majority answer is that of the training data. The columns of the two small BERTs are
        published figures (hidden test set of the leaderboard, README of google-research/bert), not measured here;
        SuperGLUE has none. As a cross-encoder, bort-nano hardly compares the two texts of a pair, because it was
        pre-trained on single sentences. On STS-B, the cosine of its frozen embeddings is far better, without any
        training.
    """
    rows = []
    for name in settings.tasks:
        found, task = figures[name], OFFICIAL[name]
        majority, scores = found["majority"], found["scores"]
        cells = [shown(task, of[part]) if part in of else "" for part in ("dev", "test") for of in (majority, scores)]
        titles = "/".join(METRIC_TITLES[metric] for metric in task.metrics)
        minutes = f"{found['seconds'] / 60:.1f}"
        rows.append([f"{task.title} ({titles})", *cells, *(s.get(name, "") for s in PUBLISHED.values()), minutes])
        if name == "stsb":
            cosine = shown(task, figures[COSINE]["scores"])
            rows.append(
                ["STS-B by the cosine of frozen embeddings", cells[0], cosine, *[""] * (2 + len(PUBLISHED)), ""]
            )
    head = ["task", "majority, dev", "bort-nano, dev", "majority, test", "bort-nano, test"]
    head += [f"{name}, test, published" for name in PUBLISHED]
    return Shown(about, table([*head, "min"], rows), figure=f"{len(settings.tasks)} tasks, on its page")


BENCHMARK = Benchmark(
    name="glue",
    page="tasks",
    title="Full tasks",
    question="What does bort-nano reach on full GLUE and SuperGLUE tasks?",
    sources=("src/bort/finetuning", "src/bort/tasks", "src/bort/assets/bort-nano/model.safetensors"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="bort-nano")
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with glue and superglue")
    made.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    made.add_argument("--learning-rates", nargs="+", type=float, default=[1e-3])
    made.add_argument("--max-train-rows", type=int, help="maximum rows per task, for a trial")
    made.add_argument("--max-epochs", type=int, help="maximum epochs per task, for a trial")
    made.add_argument("--fresh", action="store_true", help="discard the finished tasks")
    arguments = made.parse_args()

    cache = Cache(arguments.out / "results" / "glue.jsonl", fresh=arguments.fresh)
    figures: dict[str, Any] = {}
    for name in arguments.tasks:
        key = {"task": name, "weights": weights_of(arguments.model), **settings_of(name, arguments)}
        figures[name] = cache.once(key, partial(fit, name, arguments))
        if name == "stsb":
            key = {"task": COSINE, "weights": weights_of(arguments.model)}
            figures[COSINE] = cache.once(key, lambda: {"scores": by_cosine(arguments.model, arguments.data)})
        print(f"{name}: {figures[name]['seconds'] / 60:.1f} min", flush=True)
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
