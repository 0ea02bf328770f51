"""Shared by the benchmarks: fair timing, medians, targets, and how results are stored and shown.

`publish` writes a benchmark's measurements to `results/<name>.json`, with the commit, machine, versions, command and
fingerprints of the code behind them. The pages are generated only from these files (`python -m benchmarks.pages`), by
each benchmark's `show`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.fingerprints import commit, fingerprints
from bort.files import write_aside
from bort.runs import environment
from bort.speed.race import Spread

FOLDER = Path(__file__).resolve().parent
WEIGHTS = "src/bort/assets/bort-nano/model.safetensors"
_ANSWERING = """
    batching.py classifiers.py costs.py cutting.py encoding.py engine.py exported_engine.py graph graph_spec.py
    int8_weights.py manifest.py onnx_runner.py openvino_runner.py plain_engine.py predictor.py runner.py torch_engine.py
"""
ANSWERING = tuple(f"src/bort/predict/{name}" for name in _ANSWERING.split())
"""The files that a text passes through in a classifier, from the text to its probabilities."""


@dataclass(frozen=True)
class Target:
    """A figure and the bound that it should meet.

    Args:
        what: The figure in words.
        value: The figure.
        relation: How the figure must relate to the bound.
        bound: The bound.
        unit: Appended to both numbers.
        error: Standard error of the figure. If the bound is within it, the result is "level".
        leads: Whether the index shows it; the page shows all targets.
    """

    what: str
    value: float
    relation: Literal[">=", "<=", "<"]
    bound: float
    unit: str = ""
    error: float | None = None
    leads: bool = True

    @property
    def met(self) -> bool:
        """Judged on the unrounded figure."""
        if self.relation == ">=":
            return self.value >= self.bound
        return self.value <= self.bound if self.relation == "<=" else self.value < self.bound

    @property
    def result(self) -> str:
        """`met`, `MISSED`, or `level` if the figure is within its standard error of the bound."""
        if self.error is not None and abs(self.value - self.bound) <= self.error:
            return "level"
        return "met" if self.met else "**MISSED**"

    @property
    def measured(self) -> str:
        """The figure with its unit and its standard error."""
        error = f" ± {self.error:.2g}" if self.error else ""
        return f"{self.value:.3g}{error}{self.unit}"

    @property
    def wanted(self) -> str:
        """The bound with its unit."""
        return f"{self.relation} {self.bound:g}{self.unit}"


@dataclass(frozen=True)
class Shown:
    """A result in words.

    Args:
        about: What was measured and how; one paragraph.
        body: Tables, as Markdown.
        targets: The targets.
        figure: The answer in a few words, for the index, if there is no target.
    """

    about: str
    body: str
    targets: tuple[Target, ...] = ()
    figure: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One question, and how its answer is shown.

    Args:
        name: Name of the file in `results/`.
        page: Name of the page in `results/` that shows it.
        title: Heading.
        question: The question that it answers.
        sources: Files and folders of the package that the figures depend on. A later change makes the figures stale.
        show: Makes text and tables from the figures and the settings they were measured with.
    """

    name: str
    page: Literal["speed", "nano", "agora", "ose", "tasks", "house"]
    title: str
    question: str
    sources: tuple[str, ...]
    show: Callable[[Any, argparse.Namespace], Shown]


def interleaved(functions: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Time functions in turn, A, B, A, B, …, so that a slow minute of the machine affects all of them.

    Each runs once beforehand, untimed.

    Returns:
        The seconds of each round, by name.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Ratio of the medians: how many times as fast the second is, if both are seconds."""
    return statistics.median(numerator) / statistics.median(denominator)


def ratios_by_round(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Ratios of consecutive measurements; their spread shows how reliable `ratio` is on this machine."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that all benchmarks have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=FOLDER, help="folder that holds results/; use another one for trials")
    return made


def publish(
    benchmark: Benchmark, figures: dict[str, Any], arguments: argparse.Namespace, name: str = "", measured_at: str = ""
) -> None:
    """Store a measurement, and print it as its page will show it.

    Args:
        benchmark: The benchmark.
        figures: All measurements.
        arguments: The settings they were measured with.
        name: Name of the result, if a benchmark has several; by default the benchmark's.
        measured_at: The commit that was measured, if it is not the one checked out.
    """
    settings = {flag: _portable(value) for flag, value in vars(arguments).items() if flag != "out"}
    record = {
        "benchmark": sys.modules["__main__"].__spec__.name if sys.modules["__main__"].__spec__ else "",
        "commit": measured_at or commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **environment(),
        "command": _command(),
        # Stored runs record the weights they were measured with; only runs of the present weights are published.
        "sources": fingerprints(benchmark.sources, measured_at) | fingerprints((WEIGHTS,)),
        "settings": settings,
        "figures": figures,
    }
    file = arguments.out / "results" / f"{name or benchmark.name}.json"
    with write_aside(file) as out:
        json.dump(record, out, indent=2, ensure_ascii=False, default=float)
        out.write("\n")
    kept = json.loads(file.read_text("utf-8"))
    shown = benchmark.show(kept["figures"], argparse.Namespace(**kept["settings"]))
    print(f"{shown.body}\n\n{targets_table(shown.targets)}\n\nRun `make pages` to update the pages.")


def targets_table(targets: Sequence[Target]) -> str:
    """The targets and what was measured."""
    if not targets:
        return ""
    return table(["target", "bound", "measured", "result"], [[t.what, t.wanted, t.measured, t.result] for t in targets])


def _command() -> str:
    """The running command as a user would type it in the root of the repository."""
    spec = sys.modules["__main__"].__spec__
    script = ["-m", spec.name] if spec is not None else [Path(sys.argv[0]).name]
    return shlex.join(["python", *script, *map(_without_home, sys.argv[1:])])


def _without_home(argument: str) -> str:
    flag, equals, value = argument.rpartition("=")
    return flag + equals + os.path.relpath(value) if Path(value).is_absolute() else argument


def _portable(value: Any) -> Any:
    """A setting in a form that JSON can store."""
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return str(value) if isinstance(value, Path) else value
