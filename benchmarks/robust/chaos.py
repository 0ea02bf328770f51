"""Publishes what `make chaos`, a long run of kills, recorded.

make chaos COUNT=200 SEED=1 && python -m benchmarks.robust.chaos --run build/chaos.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, table
from benchmarks.robust.left import publish_left

KINDS = {"kill": "kill -9", "signal": "SIGINT, SIGTERM", "memory": "memory limits"}


def counted(run: Path) -> dict[str, Any]:
    """How often each command was disturbed, and how often that ended it."""
    if not run.is_file():
        raise SystemExit(f"{run} does not exist; make chaos writes it")
    lines = [json.loads(line) for line in run.read_text("utf-8").splitlines()]
    tries, ends = Counter[str](), Counter[str]()
    for one in lines:
        kind = one["test"] if one["test"] != "serve" else "kill" if one["killed"] else "signal"
        name = f"{one['command']} {kind}"
        tries[name] += 1
        ends[name] += one["test"] == "serve" or one.get("killed", one.get("status") != 0)
    return {"tries": dict(tries), "ended": dict(ends), "seeds": sorted({one["seed"] for one in lines})}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = """
        Commands are killed with kill -9 once or twice at random moments, sent SIGINT or SIGTERM, or given too little
        memory, and then run again, with --resume if they support it. The result must be bit-identical to that of an
        undisturbed run, except for times and places, with no extra file. A server is killed or stopped under the load
        of four clients and restarted; each request must get its one correct answer. The run ends at the first
        difference. A process that finished before its kill only counts as an attempt.
    """
    names = sorted({name.rpartition(" ")[0] for name in figures["tries"]})
    rows = [
        [name]
        + [
            f"{figures['ended'].get(f'{name} {kind}', 0)} of {figures['tries'][f'{name} {kind}']}"
            if f"{name} {kind}" in figures["tries"]
            else ""
            for kind in KINDS
        ]
        for name in names
    ]
    kills = sum(number for name, number in figures["ended"].items() if name.endswith(" kill"))
    target = Target("kills without a difference", kills, ">=", 200)
    return Shown(about, table(["command", *KINDS.values()], rows), (target,))


BENCHMARK = Benchmark(
    name="chaos",
    page="house",
    title="Killed commands",
    question="What do commands and servers leave behind when they are killed at a random moment?",
    sources=("src", "tests/chaos"),
    show=show,
)


if __name__ == "__main__":
    publish_left(BENCHMARK, __doc__, "build/chaos.jsonl", counted)
