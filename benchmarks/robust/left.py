"""What a long run of `make` leaves, published by another command once the run is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, parser, publish


def publish_left(benchmark: Benchmark, about: str | None, default: str, read: Callable[[Path], dict[str, Any]]) -> None:
    """Read what a run left where `--run` says, and publish it under the last part of that path.

    Args:
        benchmark: The question.
        about: Of the command, for its help.
        default: Where the run leaves it.
        read: Gives the figures; ends the command where there are none.
    """
    made = parser(about)
    made.add_argument("--run", type=Path, default=Path(default), help="file or folder that the run left")
    arguments = made.parse_args()
    figures = read(arguments.run)
    arguments.run = Path(arguments.run.name)
    publish(benchmark, figures, arguments)
