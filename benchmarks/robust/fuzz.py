"""Publishes what `make fuzz`, a long run of fuzzing, read and found.

make fuzz && python -m benchmarks.robust.fuzz --run build/fuzz
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, table
from benchmarks.robust.left import publish_left


def counted(run: Path) -> dict[str, Any]:
    """Inputs, refusals, CPU seconds and kinds of failures of each reader."""
    found = {file.parent.name: json.loads(file.read_text("utf-8")) for file in sorted(run.glob("*/done.json"))}
    if not found:
        raise SystemExit(f"{run} holds no long run; make fuzz writes one")
    for reader in found.values():
        reader["found"] = len(reader["found"])
    return {"readers": found}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = """
        Each reader of files, folders, request bodies and answers from elsewhere was given damaged ones: bytes changed,
        cut, inserted or repeated, and JSON with other values, guided by the coverage of the package (atheris). An input
        counts as a failure if the reader raises anything but a one-line BortError, takes over 2 s, or over 64 MiB and
        20 times the input, opens or changes a file outside its folder, leaves one there, or starts a process. Failures
        found in earlier runs are tests now (tests/fuzz/test_found.py and next to each reader).
    """
    readers = figures["readers"]
    rows = [
        [name, f"{one['inputs']:,}", f"{100 * one['refused'] / one['inputs']:.0f} %", f"{one['found']}"]
        for name, one in readers.items()
    ]
    inputs, found = (sum(one[what] for one in readers.values()) for what in ("inputs", "found"))
    rows.append(["all", f"{inputs:,}", "", f"{found}"])
    targets = (
        Target("inputs", inputs / 1e6, ">=", 1, " million"),
        Target("kinds of failures", found, "<=", 0),
    )
    return Shown(about, table(["reader", "inputs", "refused", "kinds of failures"], rows), targets)


BENCHMARK = Benchmark(
    name="fuzz",
    page="house",
    title="Damaged files",
    question="What do readers do with damaged or hostile files?",
    sources=("src", "tests/fuzz"),
    show=show,
)


if __name__ == "__main__":
    publish_left(BENCHMARK, __doc__, "build/fuzz", counted)
