"""Publish the output of a long `make` run, with another command once the run is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, parser, publish


def publish_left(benchmark: Benchmark, about: str | None, default: str, read: Callable[[Path], dict[str, Any]]) -> None:
    """Read the output of a run from `--run`, and publish it with only the last part of that path.

    Args:
        benchmark: The benchmark.
        about: Help text of the command.
        default: Where the run writes its output.
        read: Returns the figures; exits if there are none.
    """
    made = parser(about)
    made.add_argument("--run", type=Path, default=Path(default), help="file or folder that the run left")
    arguments = made.parse_args()
    figures = read(arguments.run)
    arguments.run = Path(arguments.run.name)
    publish(benchmark, figures, arguments)
