"""Fair timing: all take turns, so that a slow minute of the machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LEAST_SECONDS = 0.03
_LONG_SECONDS = 2.0
_MOST_CALLS = 10


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int = 3) -> str:
        """For people: the median, and the range behind it."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def take_turns(
    functions: Mapping[Any, Callable[[], object]], rounds: int, done: Callable[[Any], None] = lambda _: None
) -> dict[Any, list[float]]:
    """Time functions in turn, A, B, A, B, …

    At each turn a function runs once untimed, for what ran before has taken its place in the caches, and the threads of
    the other library may still wait there for work; then a few times, if it is short, of which the median counts. Of
    one that takes seconds that is a small part, and its first call counts.

    Args:
        functions: What to time, by name.
        rounds: Turns of each.
        done: Called with a function's name after its turn.

    Returns:
        The seconds of one call, for each round, by name.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            first = _timed(function)
            calls = min(_MOST_CALLS, max(1, round(_LEAST_SECONDS / max(first, 1e-9))))
            again = (_timed(function) for _ in range(calls))
            seconds[name].append(first if first > _LONG_SECONDS else statistics.median(again))
            done(name)
    return seconds


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
