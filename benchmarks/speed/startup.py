"""How long the command line takes, measured from the shell.

    python -m benchmarks.speed.startup --model runs/support

It times help, the shape of the embedded model, refused mistakes (a bad setting, a missing file), and one prediction
with a fine-tuned folder.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, interleaved, parser, publish, table

COMMANDS = {
    "bort --help": (["--help"], 0),
    "bort finetune --help": (["finetune", "--help"], 0),
    "bort info bort-nano": (["info", "bort-nano"], 0),
    "bort finetune --max-epochs 0 (refused)": (["finetune", "--train", "a", "--out", "b", "--max-epochs", "0"], 2),
    "bort finetune --train MISSING (refused)": (["finetune", "--train", "/no/such.csv", "--out", "b"], 2),
    "bort predict --model MISSING (refused)": (["predict", "--model", "/no/such"], 2),
}
"""The arguments and the expected exit status."""


ANSWER = "bort predict (one text, a fine-tuned folder)"
LIMITS = {ANSWER: 2.5}
"""Seconds that a command may take; 0.5 if nothing needs to be computed."""


def runner(arguments: list[str], status: int) -> Callable[[], None]:
    """Run the console script next to this interpreter."""
    script = Path(sys.executable).with_name("bort")

    def run() -> None:
        done = subprocess.run(
            [script, *arguments], input=b"a text\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode != status:
            raise RuntimeError(f"bort {' '.join(arguments)} ended with {done.returncode}, not {status}")

    return run


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seconds: dict[str, list[float]] = figures["seconds"]
    about = f"""
        Wall-clock time of the whole process, {settings.rounds} runs each, in turn after one untimed run, with the files
        in the page cache.
    """
    rows = [
        [f"`{name}`", *(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times)))]
        for name, times in seconds.items()
    ]
    targets = tuple(
        Target(f"`{name}`, median", statistics.median(times), "<", LIMITS.get(name, 0.5), " s")
        for name, times in seconds.items()
    )
    return Shown(about, table(["command", "median s", "min s", "max s"], rows), targets)


BENCHMARK = Benchmark(
    name="startup",
    page="speed",
    title="Start-up of the command line",
    question="How long does the command line take to show help, refuse a mistake, or label one text?",
    sources=(
        "src/bort/__main__.py",
        "src/bort/__init__.py",
        "src/bort/cli/parser.py",
        "src/bort/cli/inputs.py",
        "src/bort/predict/plain_engine.py",
    ),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=11)
    made.add_argument("--model", required=True, help="folder of bort finetune")
    arguments = made.parse_args()
    typed = COMMANDS | {ANSWER: (["predict", "--model", arguments.model], 0)}
    seconds = interleaved({name: runner(*words) for name, words in typed.items()}, arguments.rounds)
    publish(BENCHMARK, {"seconds": seconds}, arguments)


if __name__ == "__main__":
    main()
