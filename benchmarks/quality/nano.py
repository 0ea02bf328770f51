"""What bort-nano is good for: masked tokens, frozen features and fine-tuning on few labels, five tasks of GLUE.

    git archive fd29282 src/bort/assets/bort-nano | tar -x -C runs/first
    python -m benchmarks.quality.nano --first runs/first/src/bort/assets/bort-nano --minilm all-MiniLM-L6-v2 \\
        --corpus runs/nano/corpus

`--first` is the first nano of this repository, `--minilm` a folder with all-MiniLM-L6-v2, `--corpus` a tokenised corpus
of bort-nano's tokenizer, whose held-out part is scored. Finished parts are kept in results/nano.jsonl, known by the
model's weights and their settings, but not by this package's code: after a change use --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Target, parser, publish, table
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
PUBLISHED = {
    "BERT-Tiny (4.4 M)": {"SST-2": "83.2", "MRPC": "71.1", "RTE": "57.2", "CoLA": "0.0", "STS-B": "74.3"},
    "BERT-Mini (11.3 M)": {"SST-2": "85.9", "MRPC": "71.8", "RTE": "57.9", "CoLA": "0.0", "STS-B": "75.4"},
}
"""Test scores of the GLUE leaderboard, from the README of google-research/bert (Turc et al. 2019)."""
MASKED_ROWS = 2048


def masked_score(folder: str, corpus: Path) -> Record:
    """Loss and accuracy at 15 % masked positions of held-out text, rows of 128 tokens."""
    from bort import BortForMaskedLM, load_tokenizer
    from bort.data.corpus.corpus import open_corpus
    from bort.model.checkpoints import load, locate
    from bort.pretraining.arguments import PretrainArguments
    from bort.pretraining.rows import RowSource
    from bort.pretraining.validation import evaluate_mlm, unigram_score

    tokenizer = load_tokenizer(locate(folder))
    opened = open_corpus(corpus, tokenizer)
    settings = PretrainArguments(corpus=[str(corpus)], tokenizer=folder, out="", sequence_length=128)
    rows = RowSource(settings, opened, tokenizer).masked()
    score = evaluate_mlm(load(BortForMaskedLM, folder), rows)
    unigram = unigram_score(opened.tokens("train"), rows, len(tokenizer))
    return {"loss": score.loss, "accuracy": score.accuracy, "positions": score.positions} | {
        "unigram_loss": unigram.loss,
        "unigram_accuracy": unigram.accuracy,
    }


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
            metric=task["metric"],
            learning_rates=[rate],
            batch_sizes=[32],
            max_length=128,
            max_epochs=task["max_epochs"],
            patience=task["max_epochs"] + 1 if "eval_steps" not in task else 100,
            eval_steps=task.get("eval_steps"),
        )
        started = time.perf_counter()
        metrics = bort.finetune(settings)
    return {"dev": metrics["dev"], "seconds": round(time.perf_counter() - started, 1), "rows": metrics["rows"]}


def once(cache: Cache, key: Record, work: Callable[[], Record]) -> Record:
    """A finished part, or the part done now."""
    known = cache.get(key)
    if known is None:
        known = {"key": key, **work()}
        cache.add(known)
    return known


def few_labels(models: dict[str, str], arguments: argparse.Namespace, cache: Cache) -> tuple[str, dict[str, float]]:
    """The table of the tasks with few labels, and each method's mean test accuracy in %."""
    from bort.model.checkpoints import locate

    rows: list[list[str]] = []
    means: dict[str, float] = {}

    def add(name: str, tests: dict[str, list[float]]) -> None:
        cells = [f"{100 * statistics.mean(tests[task]):.1f}" for task in TASKS]
        means[name] = 100 * statistics.mean(statistics.mean(tests[task]) for task in TASKS)
        rows.append([name, *cells, f"{means[name]:.1f}"])

    simple = baselines(argparse.Namespace(data=arguments.data, tasks=TASKS))
    add("TF-IDF + logistic regression", {task: [found["test"]] for task, found in simple["tfidf"].items()})
    encoders = {**models, "all-MiniLM-L6-v2 (22.7 M)": arguments.minilm}
    for name, folder in encoders.items():
        if folder is None:
            continue
        key = {"part": "features", "weights": weights_of(folder)}
        found = once(cache, key, lambda folder=folder: {"tasks": probe_all(folder, arguments.data)})  # type: ignore[misc]
        add(f"{name}, frozen features + logistic regression", {t: [f["test"]] for t, f in found["tasks"].items()})
    fits_cache = Cache(arguments.out / "results" / "scarce.jsonl", fresh=False)
    settings = argparse.Namespace(
        data=arguments.data, tasks=TASKS, seeds=arguments.seeds, learning_rates=[1e-3], max_epochs=8, patience=3
    )
    for name, folder in models.items():
        label = "random" if name.startswith("random") else "bort-nano"
        fits = fits_of(label, Path(locate(folder)), fits_cache, settings)
        add(f"{name}, fine-tuned", {task: [record["test"] for record in records] for task, records in fits.items()})
    return table(["method", *TASKS, "mean"], rows), means


def glue(folder: str, arguments: argparse.Namespace, cache: Cache) -> tuple[str, Record]:
    """The table of GLUE's development scores."""
    found = {}
    for name in arguments.glue_tasks:
        key = {"part": "glue", "task": name, "weights": weights_of(folder), "rate": arguments.rate, **GLUE[name]}
        found[name] = once(cache, key, lambda name=name: glue_score(folder, name, arguments.glue, arguments.rate))  # type: ignore[misc]
    names = {"SST-2": "accuracy", "MRPC": "accuracy", "RTE": "accuracy", "CoLA": "matthews", "STS-B": "pearson"}
    mine = [f"{100 * found[name]['dev'][names[name]]:.1f}" for name in found]
    rows = [["bort-nano, development set", *mine]]
    rows += [[f"{name}, test set, as published", *[scores[t] for t in found]] for name, scores in PUBLISHED.items()]
    return table(["model", *[f"{name} ({names[name]})" for name in found]], rows), found


def weights_of(folder: str) -> str:
    from bort.model.checkpoints import locate

    return sha256(Path(locate(folder)) / "model.safetensors")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="bort-nano")
    made.add_argument("--first", help="folder of the first nano")
    made.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    made.add_argument("--corpus", type=Path, required=True, help="tokenised corpus")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--glue", type=Path, default=Path("../shared/data/glue"))
    made.add_argument("--glue_tasks", nargs="*", default=list(GLUE))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--rate", type=float, default=3e-4, help="learning rate for GLUE")
    made.add_argument("--fresh", action="store_true", help="forget the finished parts")
    arguments = made.parse_args()
    cache = Cache(arguments.out / "results" / "nano.jsonl", fresh=arguments.fresh)

    with tempfile.TemporaryDirectory() as scratch:
        save_random(arguments.model, Path(scratch))
        models = {"bort-nano": arguments.model, "random weights of its shape": scratch}
        if arguments.first:
            models["the first bort-nano"] = arguments.first
        masked = {}
        for name, folder in models.items():
            key = {"part": "masked", "weights": weights_of(folder), "corpus": arguments.corpus.name}
            masked[name] = once(cache, key, lambda folder=folder: masked_score(folder, arguments.corpus))  # type: ignore[misc]
        labels, means = few_labels(models, arguments, cache)
    scores, found = ("", {}) if not arguments.glue_tasks else glue(arguments.model, arguments, cache)

    rows = [[n, f"{s['loss']:.3f}", f"{100 * s['accuracy']:.1f} %"] for n, s in masked.items()]
    first = next(iter(masked.values()))
    rows.append(["counting words", f"{first['unigram_loss']:.3f}", f"{100 * first['unigram_accuracy']:.1f} %"])
    shown = "\n\n".join(
        [
            "Masked tokens of held-out text:",
            table(["model", "loss (nats)", "right"], rows),
            f"Few labels, test accuracy in %, means over {len(arguments.seeds)} seeds where a model is fine-tuned:",
            labels,
        ]
    )
    if found:
        about = "All training data of GLUE tasks; the published figures are the leaderboard's, on its test sets:"
        shown += f"\n\n{about}\n\n{scores}"

    ours = "bort-nano, frozen features + logistic regression"
    best = max(means[ours], means["bort-nano, fine-tuned"])
    targets = [Target("points above TF-IDF, few labels", best - means["TF-IDF + logistic regression"], ">=", 5.0)]
    minilm = means.get("all-MiniLM-L6-v2 (22.7 M), frozen features + logistic regression")
    if minilm is not None:
        targets.append(Target("points below MiniLM's features, few labels", minilm - best, "<=", 5.0))
    if "SST-2" in found:
        targets.append(Target("SST-2, development accuracy", 100 * found["SST-2"]["dev"]["accuracy"], ">=", 83.0, " %"))
    about = """
        Frozen features are the mean over the last layer, normalised; for pairs a, b, |a - b| and a * b; C is chosen on
        the development data (1, 10, 100). Fine-tuning on few labels is that of the section "Few labels".
    """
    if found:
        about += f"""
            For GLUE one fine-tuning a task: learning rate {arguments.rate:g}, batch 32, at most 3 epochs of SST-2 and 8
            of the others, the best development score of the evaluations on the way.
        """
    publish(
        "nano",
        "bort-nano",
        about=about,
        shown=shown,
        figures={"masked": masked, "few_labels": means, "glue": found},
        targets=targets,
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
