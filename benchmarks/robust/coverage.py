"""How much of the package the tests run, by line and branch: publishes what `make coverage` leaves.

make coverage && python -m benchmarks.robust.coverage --run build/coverage.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, table
from benchmarks.robust.left import publish_left

LEAST = 12


def read(report: Path) -> dict[str, Any]:
    """The shares of lines and branches, and the files that have most that no test runs."""
    if not report.is_file():
        raise SystemExit(f"{report} is not there; make coverage writes it")
    found = json.loads(report.read_text("utf-8"))
    totals = found["totals"]
    missed = {
        name: [one["summary"]["missing_lines"], one["summary"]["missing_branches"], one["summary"]["percent_covered"]]
        for name, one in found["files"].items()
    }
    most = sorted(missed, key=lambda name: -missed[name][0] - missed[name][1])[:LEAST]
    return {
        "percent": totals["percent_covered"],
        "lines": [totals["covered_lines"], totals["num_statements"]],
        "branches": [totals["covered_branches"], totals["num_branches"]],
        "least": {name.removeprefix("src/"): missed[name] for name in most},
    }


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = """
        Lines and branches of `src` that the whole suite runs on this machine, in the processes that it starts, too.
        What needs a GPU, several GPUs, another system than Linux or a network is not run here.
    """
    shares = [
        [what, f"{figures[what][0]:,} of {figures[what][1]:,}", f"{100 * figures[what][0] / figures[what][1]:.1f} %"]
        for what in ("lines", "branches")
    ]
    least = [[f"`{name}`", f"{n}", f"{m}", f"{p:.0f} %"] for name, (n, m, p) in figures["least"].items()]
    body = table(["", "run", "share"], shares) + "\n\n"
    body += table(["file with most that no test runs", "lines", "branches", "run"], least)
    return Shown(about, body, (Target("lines and branches together", figures["percent"], ">=", 92, " %"),))


BENCHMARK = Benchmark(
    name="coverage",
    page="house",
    title="Tests",
    question="How much of the package do the tests run?",
    sources=(),  # it changes with each commit
    show=show,
)


if __name__ == "__main__":
    publish_left(BENCHMARK, __doc__, "build/coverage.json", read)
