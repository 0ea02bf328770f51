"""How long `bort --help` takes, from the shell and back.

    python -m benchmarks.speed.startup

`bort finetune --help` is timed beside it: what a command costs that loads its arguments.
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

COMMANDS = {"bort --help": ["--help"], "bort finetune --help": ["finetune", "--help"]}


def runner(arguments: list[str]) -> Callable[[], None]:
    """Run the console script that stands beside this interpreter."""
    script = Path(sys.executable).with_name("bort")

    def run() -> None:
        subprocess.run([script, *arguments], check=True, stdout=subprocess.DEVNULL)

    return run


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seconds: dict[str, list[float]] = figures["seconds"]
    about = f"""
        Wall time of the whole process, {settings.rounds} runs each, taken in turn after one untimed run, with the files
        in the page cache. Only `bort --help` has a target.
    """
    rows = [
        [f"`{name}`", *(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times)))]
        for name, times in seconds.items()
    ]
    target = Target("`bort --help`, median", statistics.median(seconds["bort --help"]), "<", 0.5, " s")
    return Shown(about, table(["command", "median s", "min s", "max s"], rows), (target,))


BENCHMARK = Benchmark(
    name="startup",
    page="speed",
    title="Start of the command line",
    question="How long does `bort --help` take?",
    sources=("src/bort/__main__.py", "src/bort/__init__.py", "src/bort/cli/parser.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=11)
    arguments = made.parse_args()
    seconds = interleaved({name: runner(flags) for name, flags in COMMANDS.items()}, arguments.rounds)
    publish(BENCHMARK, {"seconds": seconds}, arguments)


if __name__ == "__main__":
    main()
