"""The distance from a command to its work: moves and climbs of four trips through the modules of the package.

    python -m benchmarks.trips --before ../bort-at-1ef21ea

Each trip is a tiny job in a separate process; the benchmark records its calls between modules of `bort`. A *move* is a
call from a function of one module into a function of another; repeated moves count once. A *climb* is a move that goes
up: to a module on a higher floor (`LAYERS` in tests/test_layers.py), or back to a module that is still on the call
stack. Two trips end with the first weight update, the others with their answer. `--before` is a checkout of an earlier
commit to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import FOLDER, Benchmark, Shown, parser, publish, table
from benchmarks.fingerprints import ROOT, commit

TRIPS = {
    "finetune": "a labelled text, to the first weight update",
    "predict": "a text, to its label",
    "pretrain": "a line of the corpus, to the first weight update",
    "extract": "a candidate, to its score",
}


def all_trips(tree: Path) -> dict[str, Any]:
    """Run each trip in a separate process, with the package of a checkout."""
    found = {}
    for trip in TRIPS:
        environment = os.environ | {"PYTHONPATH": str(tree / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(FOLDER / "travel.py"), trip, str(tree.resolve())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"{trip} in {tree}: {done.stderr[-2000:]}")
        found[trip] = json.loads(done.stdout.splitlines()[-1])
        print(f"{trip}: {found[trip]['moves']} moves, {found[trip]['climbs']} climbs", flush=True)
    return found


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = """
        Moves and climbs of four trips, from the command line to the first weight update or to the answer, recorded in
        tiny jobs. A move is a call from a function of one module of the package into a function of another; repeated
        moves count once. A climb is a move to a module on a higher floor, or back to a module that is still on the call
        stack. Each commit is judged by its own floors.
    """
    commits = list(figures)
    rows = [
        [f"`bort {trip}`: {what}"]
        + [f"{figures[commit][trip][count]}" for count in ("moves", "climbs") for commit in commits]
        for trip, what in TRIPS.items()
    ]
    head = ["trip", *(f"{count}, `{commit[:7]}`" for count in ("moves", "climbs") for commit in commits)]
    moves, climbs = (
        [sum(figures[commit][trip][count] for trip in TRIPS) for commit in (commits[0], commits[-1])]
        for count in ("moves", "climbs")
    )
    figure = f"{moves[-1]} moves and {climbs[-1]} climbs in four trips"
    if len(commits) > 1:
        figure += f" ({moves[0]} and {climbs[0]} before)"
    return Shown(about, table(head, rows), figure=figure)


BENCHMARK = Benchmark(
    name="trips",
    page="house",
    title="Trips through the house",
    question="How many modules does a text pass through?",
    sources=(),  # a comparison of commits, which do not change
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    arguments = made.parse_args()
    figures: dict[str, Any] = {}
    for tree in (arguments.before, ROOT) if arguments.before else (ROOT,):
        figures[commit(tree)] = all_trips(tree)
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
