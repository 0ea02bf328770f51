"""`bort demo`: the whole road on what the package carries."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.cli.results import FolderResult

_NANO = "bort-nano, fine-tuned"
_TFIDF = "TF-IDF + logistic regression"


@dataclass
class DemoArguments:
    """Arguments of `bort demo`."""

    out: str = "runs/demo"
    """folder of the run; an earlier demo there is replaced"""


def demo(arguments: DemoArguments) -> FolderResult:
    """Fine-tune the embedded bort-nano on the embedded support-desk messages, offline, in minutes.

    84 labelled messages to train on, 140 to choose by, 210 to test on; beside it TF-IDF with logistic regression on the
    same messages. Then it labels new messages and says what to run on a file of your own.
    """
    import shutil

    from bort.agora.run import finetune
    from bort.data.tables.examples import read_examples
    from bort.finetuning.arguments import FinetuneArguments
    from bort.model.checkpoints import example_data
    from bort.predict.predictor import Predictor
    from bort.progress import console
    from bort.tasks.baselines import majority, tfidf

    started = time.monotonic()
    data = example_data("support")
    parts = {name: str(data / f"{name}.jsonl") for name in ("train", "dev", "test")}
    _remove_earlier(Path(arguments.out), shutil.rmtree)
    console().print("Messages to a support desk, seven topics; bort-nano against TF-IDF + logistic regression.\n")
    metrics = finetune(
        # Half a minute instead of two: the other rates of the default grid are for larger encoders.
        FinetuneArguments(
            train=parts["train"],
            dev=parts["dev"],
            test=parts["test"],
            out=arguments.out,
            method="plain",
            learning_rates=[5e-4],
        )
    )
    train, dev, test = (read_examples(parts[name]) for name in ("train", "dev", "test"))
    scores = {
        _NANO: (metrics["dev"]["accuracy"], metrics["test"]["accuracy"]),
        _TFIDF: _pair(tfidf(train, dev, test)),
        "always the most frequent label": _pair(majority(train, dev, test)),
    }
    predictor = Predictor(arguments.out)
    texts = (data / "new.txt").read_text("utf-8").splitlines()
    answers = [
        (text, answer.label, max(answer.probabilities.values()))
        for text, answer in zip(texts, predictor.predict(texts), strict=True)
    ]
    _print(arguments.out, scores, answers, metrics["test_confidence"]["accuracy"], time.monotonic() - started)
    return FolderResult({"scores": scores, **metrics}, Path(arguments.out).expanduser())


def _remove_earlier(folder: Path, remove: Any) -> None:
    """Replace a folder only if a run of ours made it."""
    if (folder / "journal.jsonl").is_file():
        remove(folder)


def _pair(score: dict[str, float]) -> tuple[float, float]:
    return score["dev"], score["test"]


def _print(
    out_folder: str,
    scores: dict[str, tuple[float, float]],
    answers: list[tuple[str, Any, float]],
    interval: list[float],
    seconds: float,
) -> None:
    from rich.table import Table

    from bort.progress import out

    console = out()
    table = Table(title="Accuracy on 210 test messages", title_justify="left")
    table.add_column("model")
    table.add_column("development", justify="right")
    table.add_column("test", justify="right")
    for name, (dev, test) in scores.items():
        table.add_row(name, f"{100 * dev:.1f} %", f"{100 * test:.1f} %")
    console.print(table)
    low, high = interval
    console.print(
        f"(bort-nano's test accuracy lies between {100 * low:.0f} and {100 * high:.0f} % with 95 % confidence)\n"
    )
    if scores[_NANO][1] < scores[_TFIDF][1]:
        console.print(
            "bort-nano does not beat TF-IDF here. It is small, and its model card tells how little it has read.\n"
            "Any BERT-type model of yours goes the same road: --model FOLDER.\n",
            soft_wrap=True,
        )
    examples = Table(title="New messages", title_justify="left")
    examples.add_column("message")
    examples.add_column("label")
    examples.add_column("probability", justify="right")
    for text, label, probability in answers:
        examples.add_row(text, str(label), f"{probability:.2f}")
    console.print(examples)
    console.print(f"\nDone in {seconds:.0f} s, offline. The model, its figures and report.html are in {out_folder}.")
    console.print(
        "On a file of your own (columns text and label; .csv, .tsv, .jsonl or .parquet):\n"
        "  bort finetune --train mine.csv --model bort-nano --out runs/mine\n"
        "  bort predict --model runs/mine --input new.csv --output labels.csv",
        soft_wrap=True,
    )
