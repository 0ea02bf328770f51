"""`bort demo`: the whole workflow on the embedded model and data."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.bounds import validate
from bort.cli.results import FolderResult

if TYPE_CHECKING:
    from bort.files import FolderLock

_AGORA = "bort-nano, Agora"
_MAJORITY = "always the most frequent label"
_TFIDF = "TF-IDF + logistic regression"


@dataclass
class DemoArguments:
    """Arguments of `bort demo`.

    Example:
        >>> DemoArguments().out
        'runs/demo'
    """

    out: str = "runs/demo"
    """folder for the run; an earlier demo there is replaced"""


def demo(arguments: DemoArguments) -> FolderResult:
    """Fine-tune the embedded bort-nano on the embedded support-desk messages, offline, in minutes.

    There are 224 labelled and 200 unlabelled training messages, and 210 test messages. Agora uses all training
    messages. It is compared with TF-IDF with logistic regression, a linear head on the frozen encoder, and plain
    fine-tuning, all with the same labels. Then the demo labels new messages and prints the commands for your own file.

    Example:
        >>> import bort
        >>> bort.demo(bort.DemoArguments("runs/demo")).metrics["scores"]  # doctest: +SKIP
    """
    validate(arguments)
    lock = _taken(Path(arguments.out))  # also between the two runs, each of which locks its own folder
    try:
        return _demo(arguments)
    finally:
        del lock  # releases it, even if a traceback keeps this frame alive


def _demo(arguments: DemoArguments) -> FolderResult:
    from bort.agora.run import finetune
    from bort.finetuning.arguments import FinetuneArguments
    from bort.model.checkpoints import example_data
    from bort.predict.predictor import Predictor
    from bort.progress import say

    started = time.monotonic()
    data = example_data("support")
    parts = {name: str(data / f"{name}.jsonl") for name in ("train", "dev", "test")}
    out = Path(arguments.out)
    say("Messages to a support desk, seven topics, few labels.\n")
    # The lower learning rate of the default grid is for larger encoders.
    usual: dict[str, Any] = {**parts, "learning_rates": [5e-4]}
    metrics = finetune(FinetuneArguments(**usual, out=str(out), unlabelled=str(data / "unlabelled.jsonl")))
    say("\nThe same without Agora, to compare:")
    plain = finetune(FinetuneArguments(**usual, out=str(out / "plain"), method="plain", keep_better=False))
    scores = {
        **_baselines(parts),
        "bort-nano, linear head": metrics["linear_head"]["test"]["accuracy"],
        "bort-nano, plain fine-tuning": plain["test"]["accuracy"],
        _AGORA: metrics["test"]["accuracy"],
    }
    predictor = Predictor(str(out))
    texts = (data / "new.txt").read_text("utf-8").splitlines()
    answers = [
        (text, answer.label, max(answer.probabilities.values()))
        for text, answer in zip(texts, predictor.predict(texts), strict=True)
    ]
    _print(arguments.out, scores, answers, metrics["test_confidence"]["accuracy"], time.monotonic() - started)
    return FolderResult({"scores": scores, **metrics}, out)


def _baselines(parts: dict[str, str]) -> dict[str, float]:
    """Test accuracies of baselines without an encoder, with all labels; C is chosen on the development data."""
    from bort.data.tables.examples import read_examples
    from bort.tasks.baselines import majority, tfidf

    train, dev, test = (read_examples(parts[name]) for name in ("train", "dev", "test"))
    labelled, chosen = [*train, *dev], tfidf(train, dev, test)["C"]
    return {
        _MAJORITY: majority(labelled, dev, test)["test"],
        _TFIDF: tfidf(labelled, dev, test, inverse_regularisations=[chosen])["test"],
    }


def _is_demo(folder: Path) -> bool:
    """Whether an earlier demo made the folder: its settings name the embedded data, of this or another installation."""
    import yaml

    try:
        settings = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    ends = {part: ("examples", "support", f"{part}.jsonl") for part in ("train", "dev", "test", "unlabelled")}
    return isinstance(settings, dict) and all(Path(str(settings.get(x))).parts[-3:] == end for x, end in ends.items())


def _taken(folder: Path) -> FolderLock | None:
    """Lock the folder, and empty it if it holds an earlier demo; None if it cannot be made, as the run will say.

    Raises:
        BortError: Another process writes a demo there.
    """
    import shutil

    from bort.errors import BortError
    from bort.files import check_local
    from bort.runs import locked

    check_local("out", str(folder))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        return None
    try:
        lock = locked(folder)
    except BlockingIOError:
        rule = "another process is writing this demo; wait for it, or name another --out"
        raise BortError(rule, file=folder) from None
    if _is_demo(folder):
        # The settings last: by them an earlier demo is known, also after an interruption here.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == "config.yaml"):
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
    return lock


def _print(
    out_folder: str,
    scores: dict[str, float],
    answers: list[tuple[str, Any, float]],
    interval: list[float],
    seconds: float,
) -> None:
    from rich.table import Table

    from bort.progress import out

    console = out()
    table = Table(title="Accuracy on 210 test messages", title_justify="left")
    table.add_column("model")
    table.add_column("learns from")
    table.add_column("test", justify="right")
    for name, test in scores.items():
        table.add_row(name, "224 labels" + (" and 200 texts" if name == _AGORA else ""), f"{100 * test:.1f} %")
    console.print(table)
    low, high = interval
    console.print(f"(Agora's lies between {100 * low:.0f} and {100 * high:.0f} % with 95 % confidence)\n")
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
        "  bort finetune --train mine.csv --unlabelled more.txt --model bort-nano --out runs/mine\n"
        "  bort predict --model runs/mine --input new.csv --output labels.csv",
        soft_wrap=True,
    )
