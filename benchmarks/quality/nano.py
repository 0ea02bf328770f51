"""The quality of bort-nano: frozen features and fine-tuning on few labels, and five tasks of GLUE.

    python -m benchmarks.quality.nano --minilm all-MiniLM-L6-v2

`--minilm` is a folder with all-MiniLM-L6-v2; `--static` are folders that `model2vec.distill.distill(NAME,
pca_dims=256)` made, each named after its teacher. Finished parts are stored in results/nano.jsonl by the model's
weights and the settings, but not by this package's code: after a change use --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.quality.probe import TASKS, probe_all
from benchmarks.quality.scarce import Cache, Record, baselines, fits_of, save_random, sha256

GLUE: dict[str, dict[str, Any]] = {
    "SST-2": {"metric": "accuracy", "max_epochs": 3, "eval_steps": 500},
    "MRPC": {"metric": "accuracy", "max_epochs": 8},
    "RTE": {"metric": "accuracy", "max_epochs": 8},
    "CoLA": {"metric": "matthews", "max_epochs": 8},
    "STS-B": {"metric": "pearson", "max_epochs": 8},
}
"""How each task is trained and scored."""
AIMS = {"SST-2": 87.0, "MRPC": 74.0, "RTE": 60.0, "CoLA": 20.0, "STS-B": 80.0}
PUBLISHED = {
    "BERT-Tiny (4.4 M)": {"SST-2": "83.2", "MRPC": "71.1", "RTE": "57.2", "CoLA": "0.0", "STS-B": "74.3"},
    "BERT-Mini (11.3 M)": {"SST-2": "85.9", "MRPC": "71.8", "RTE": "57.9", "CoLA": "0.0", "STS-B": "75.4"},
}
"""Test scores of the GLUE leaderboard, from the README of google-research/bert (Turc et al. 2019)."""
TFIDF, TUNED = "TF-IDF + logistic regression", "fine-tuned"
FEATURES, FIRST = "frozen mean + logistic regression", "frozen first token + logistic regression"
MINILM = "all-MiniLM-L6-v2 (22.7 M)"
STATIC = "model2vec, 256 dimensions, from"
Tests = dict[str, list[float]]
"""Accuracies of each task, one per seed."""


def glue_score(folder: str, name: str, data: Path, rate: float) -> Record:
    """Best development score of one fine-tuning on all training data."""
    import bort

    task = GLUE[name]
    with tempfile.TemporaryDirectory() as made, contextlib.redirect_stdout(io.StringIO()):
        settings = bort.FinetuneArguments(
            task=[name],
            data=str(data),
            out=str(Path(made) / "run"),
            model=folder,
            method="plain",
            keep_better=False,
            metric=task["metric"],
            learning_rates=[rate],
            batch_sizes=[32],
            max_length=128,
            max_epochs=task["max_epochs"],
            patience=task["max_epochs"] + 1 if "eval_steps" not in task else 100,
            eval_steps=task.get("eval_steps"),
        )
        started = time.perf_counter()
        metrics = bort.finetune(settings).metrics
    return {"dev": metrics["dev"], "seconds": round(time.perf_counter() - started, 1), "rows": metrics["rows"]}


def few_labels(
    models: dict[str, str], arguments: argparse.Namespace, cache: Cache
) -> dict[str, dict[str, list[float]]]:
    """Test accuracies of each method and task with few labels."""
    from bort.model.checkpoints import locate

    simple = baselines(argparse.Namespace(data=arguments.data, tasks=TASKS))
    found = {TFIDF: {task: [record["test"]] for task, record in simple["tfidf"].items()}}
    encoders = {**models, MINILM: arguments.minilm}
    for name, folder in encoders.items():
        if folder is None:
            continue
        for pooling in ("mean", "first") if name != MINILM else ("mean",):
            key = {"part": "features", "weights": weights_of(folder), "pooling": pooling}
            probed = cache.once(
                key, lambda folder=folder, how=pooling: {"tasks": probe_all(folder, arguments.data, how)}
            )
            label = FEATURES if pooling == "mean" else FIRST
            found[f"{name}, {label}"] = {task: [probed["tasks"][task]["test"]] for task in TASKS}
    for folder in arguments.static:
        key = {"part": "features", "weights": weights_of(str(folder)), "pooling": "static"}
        probed = cache.once(key, lambda folder=folder: {"tasks": probe_all(str(folder), arguments.data, "static")})
        found[f"{STATIC} {folder.name}"] = {task: [probed["tasks"][task]["test"]] for task in TASKS}
    fits_cache = Cache(arguments.out / "results" / "scarce.jsonl", fresh=False)
    settings = argparse.Namespace(
        data=arguments.data, tasks=TASKS, seeds=arguments.seeds, learning_rates=[5e-4, 2e-4], max_epochs=15, patience=5
    )
    for name, folder in models.items():
        label = "random" if name.startswith("random") else "bort-nano"
        fits = fits_of(label, Path(locate(folder)), fits_cache, settings)
        found[f"{name}, {TUNED}"] = {task: [record["test"] for record in records] for task, records in fits.items()}
    return found


def glue(folder: str, arguments: argparse.Namespace, cache: Cache) -> Record:
    """GLUE's development scores."""
    found = {}
    for name in arguments.glue_tasks:
        key = {"part": "glue", "task": name, "weights": weights_of(folder), "rate": arguments.rate, **GLUE[name]}
        found[name] = cache.once(key, partial(glue_score, folder, name, arguments.glue, arguments.rate))
    return found


def weights_of(folder: str) -> str:
    from bort.model.checkpoints import locate

    return sha256(Path(locate(folder)) / "model.safetensors")


def mean_of(tests: Tests) -> float:
    """Mean of the tasks' means, in %."""
    return 100 * statistics.mean(statistics.mean(tests[task]) for task in TASKS)


def over_tasks(a: Tests, b: Tests) -> tuple[float, float]:
    """Points by which `a` is better than `b`, and the standard error over the tasks."""
    points = [100 * (statistics.mean(a[task]) - statistics.mean(b[task])) for task in TASKS]
    return statistics.mean(points), statistics.stdev(points) / len(points) ** 0.5


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    few, found = figures["few_labels"], figures["glue"]
    about = f"""
        Frozen features are the mean over the last layer or its first token, normalised; for pairs a, b, |a - b| and a *
        b. C is chosen on the development data. Fine-tuning on few labels is `bort finetune --method plain` with
        learning rates 5e-4 and 2e-4, batches of 16 and at most 15 epochs, chosen on the development data, whose labels
        the final model also learns; the other rows learn only the training labels. For GLUE, one fine-tuning per task
        (n = 1): learning rate {settings.rate:g}, batch size 32, at most 3 epochs of SST-2 and 8 of the others, the best
        development score of all evaluations during training. ± is the standard error over the five tasks; for GLUE's
        accuracies, that of a proportion of the development rows.
    """
    means = {name: mean_of(tests) for name, tests in few.items()}
    labels = [
        [name, *(f"{100 * statistics.mean(tests[task]):.1f}" for task in TASKS), f"{means[name]:.1f}"]
        for name, tests in few.items()
    ]
    body = [f"Few labels, test accuracy in %, means over {len(settings.seeds)} seeds for fine-tuned models:"]
    body.append(table(["method", *TASKS, "mean"], labels))
    targets = []
    features = f"bort-nano, {FEATURES}"
    if (rival := f"{MINILM}, {FEATURES}") in few:
        ahead, error = over_tasks(few[features], few[rival])
        targets.append(Target("points above MiniLM's frozen features", ahead, ">=", 0.0, error=error))
    for name in few:
        if name.startswith(STATIC):
            ahead, error = over_tasks(few[features], few[name])
            teacher = name.removeprefix(STATIC).strip()
            targets.append(Target(f"points above the static model of {teacher}", ahead, ">=", 4.0, error=error))
    targets.append(Target("fine-tuned, few labels, mean", means[f"bort-nano, {TUNED}"], ">=", 72.0, " %"))
    if found:
        scores = {name: found[name]["dev"][GLUE[name]["metric"]] for name in found}
        head = ["model", *(f"{name} ({GLUE[name]['metric']})" for name in found)]
        glues = [["bort-nano, development set", *(f"{100 * score:.1f}" for score in scores.values())]]
        glues += [[f"{name}, test set, as published", *(of[task] for task in found)] for name, of in PUBLISHED.items()]
        body.append("All training data of GLUE tasks; the published figures are the leaderboard's, on its test sets:")
        body.append(table(head, glues))
        for name, least in AIMS.items():
            if name not in scores:
                continue
            error = None
            if GLUE[name]["metric"] == "accuracy":
                share = scores[name]
                error = 100 * (share * (1 - share) / found[name]["rows"]["dev"]) ** 0.5
            what = f"{name}, development {GLUE[name]['metric']} (n = 1)"
            targets.append(Target(what, 100 * scores[name], ">=", least, "", error=error))
    return Shown(about, "\n\n".join(body), tuple(targets))


BENCHMARK = Benchmark(
    name="nano",
    page="nano",
    title="Features and weights of bort-nano",
    question="How good are bort-nano's features and weights?",
    sources=("src/bort/finetuning", "src/bort/assets/bort-nano/model.safetensors"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="bort-nano")
    made.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    made.add_argument("--static", type=Path, nargs="*", default=[], help="folders that model2vec distilled, by teacher")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--glue", type=Path, default=Path("../shared/data/glue"))
    made.add_argument("--glue-tasks", nargs="*", default=list(GLUE))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--rate", type=float, default=3e-4, help="learning rate for GLUE")
    made.add_argument("--fresh", action="store_true", help="discard the finished parts")
    arguments = made.parse_args()
    cache = Cache(arguments.out / "results" / "nano.jsonl", fresh=arguments.fresh)

    with tempfile.TemporaryDirectory() as scratch:
        save_random(arguments.model, Path(scratch))
        models = {"bort-nano": arguments.model, "random weights of its shape": scratch}
        labels = few_labels(models, arguments, cache)
    figures = {"few_labels": labels, "glue": glue(arguments.model, arguments, cache)}
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
