"""Publishes what `make coverage` recorded: the lines and branches of the package that the tests run.

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
    """The shares of lines and branches, and the files with the most code that no test runs."""
    if not report.is_file():
        raise SystemExit(f"{report} does not exist; make coverage writes it")
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
        Lines and branches of `src` that the whole test suite runs on this machine, including the processes that it
        starts. Code that needs a GPU, several GPUs, an operating system other than Linux, or a network is not run here.
    """
    shares = [
        [what, f"{figures[what][0]:,} of {figures[what][1]:,}", f"{100 * figures[what][0] / figures[what][1]:.1f} %"]
        for what in ("lines", "branches")
    ]
    least = [[f"`{name}`", f"{n}", f"{m}", f"{p:.0f} %"] for name, (n, m, p) in figures["least"].items()]
    body = table(["", "covered", "share"], shares) + "\n\n"
    body += table(["file with the most uncovered code", "uncovered lines", "uncovered branches", "covered"], least)
    return Shown(about, body, (Target("lines and branches together", figures["percent"], ">=", 92, " %"),))


BENCHMARK = Benchmark(
    name="coverage",
    page="house",
    title="Tests",
    question="How much of the package do the tests cover?",
    sources=("src", "tests"),
    show=show,
)


if __name__ == "__main__":
    publish_left(BENCHMARK, __doc__, "build/coverage.json", read)
