"""What the benchmarks share: fair timing, medians, targets, and the one way into RESULTS.md."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bort.files import write_aside
from bort.runs import environment
from bort.speed.race import Spread

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """A figure and the bound that it was meant to keep."""

    what: str
    value: float
    relation: Literal[">=", "<=", "<"]
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Judged on the figure itself, not on its rounded print."""
        if self.relation == ">=":
            return self.value >= self.bound
        return self.value <= self.bound if self.relation == "<=" else self.value < self.bound


def interleaved(functions: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Time functions in turn, A, B, A, B, …, so that a slow minute of the machine slows all of them.

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
    """Ratios of measurements made one after the other: how far the machine lets `ratio` be trusted."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def shown_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """`ratio`, and the range of `ratios_by_round`."""
    by_round = ratios_by_round(numerator, denominator)
    return f"{ratio(numerator, denominator):.2f} ({by_round.low:.2f} to {by_round.high:.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first aligned right."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that all benchmarks have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=FOLDER, help="folder of RESULTS.md and results/; another to try out")
    return made


def publish(
    name: str,
    title: str,
    *,
    about: str,
    shown: str,
    figures: dict[str, Any],
    targets: Sequence[Target] = (),
    out: Path = FOLDER,
) -> None:
    """Write a benchmark's section and its JSON, and print the section.

    Args:
        name: Of the section and the JSON file.
        title: Heading.
        about: What was measured and how; one paragraph, which is wrapped here.
        shown: The table.
        figures: All that was measured, for the JSON file.
        targets: What was to be reached.
        out: Folder of `RESULTS.md`.
    """
    machine = _machine()
    packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    parts = [f"## {title}", textwrap.fill(" ".join(about.split()), 120), shown]
    if targets:
        rows = [
            [t.what, f"{t.relation} {t.bound:g}{t.unit}", f"{t.value:.3g}{t.unit}", "met" if t.met else "**MISSED**"]
            for t in targets
        ]
        parts.append(table(["target", "bound", "measured", "result"], rows))
    parts.append(
        f"Remake: `{machine['command']}`  \n{machine['date']} (UTC), {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, {packages}"
    )
    section = "\n\n".join(parts)
    judged = [{**vars(target), "met": target.met} for target in targets]
    with write_aside(out / "results" / f"{name}.json") as file:
        json.dump({**machine, "figures": figures, "targets": judged}, file, indent=2, ensure_ascii=False, default=float)
        file.write("\n")
    write_section(name, section, out)
    print(section)


def write_section(name: str, markdown: str, out: Path = FOLDER) -> None:
    """Replace what stands between `<!-- BEGIN name -->` and `<!-- END name -->` in RESULTS.md, or add it at the end."""
    path = out / "RESULTS.md"
    begin, end = f"<!-- BEGIN {name} -->", f"<!-- END {name} -->"
    text = path.read_text("utf-8") if path.is_file() else "# Results\n"
    section = f"{begin}\n{markdown.strip()}\n{end}"
    if text.count(begin) != text.count(end) or text.count(begin) > 1:
        raise ValueError(f"{path.name} must hold {begin} and {end} once each, or neither")
    if begin in text:
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + section + after
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    with write_aside(path) as file:
        file.write(text)


def _machine() -> dict[str, Any]:
    return {**environment(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "command": _command()}


def _command() -> str:
    """The running command as a reader would type it at the root of the repository."""
    spec = sys.modules["__main__"].__spec__
    script = ["-m", spec.name] if spec is not None else [Path(sys.argv[0]).name]
    return shlex.join(["python", *script, *map(_without_home, sys.argv[1:])])


def _without_home(argument: str) -> str:
    flag, equals, value = argument.rpartition("=")
    return flag + equals + os.path.relpath(value) if Path(value).is_absolute() else argument
