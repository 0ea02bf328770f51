"""The race: all contestants over all loads, in turn, and what comes of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bort.speed.contestants import Contestant, precision
from bort.speed.models import Load

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


REFERENCES = ("bert-large", "bert-base")
"""What the paper compares with, in the engine below."""


REFERENCE_ENGINE = "torch-eager"


@dataclass(frozen=True)
class Timing:
    """A contestant's times over a load.

    Args:
        model: Its name.
        engine: Its engine and precision.
        load: Name of the load.
        tokens: Of the load, padding not counted.
        seconds: Of each round.
        floor: Seconds that its matrix products alone would take at the machine's peak; 0 where they are not known.
    """

    model: str
    engine: str
    load: str
    tokens: int
    seconds: tuple[float, ...]
    floor: float

    @property
    def median(self) -> float:
        """Of the rounds, in seconds."""
        return statistics.median(self.seconds)

    def times_as_fast(self, other: Timing) -> Spread:
        """As the other: the ratio of the medians, and the range of the rounds' ratios."""
        by_round = [theirs / own for theirs, own in zip(other.seconds, self.seconds, strict=True)]
        return Spread(other.median / self.median, min(by_round), max(by_round))


def race(
    contestants: Sequence[Contestant],
    load: Load,
    rounds: int,
    vocab_size: int,
    peaks: dict[str, float],
    done: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time all contestants over a load.

    Args:
        contestants: Loaded.
        load: What is asked.
        rounds: Turns of each.
        vocab_size: Token ids stay below it.
        peaks: Operations a second by precision.
        done: Called after each turn with what is going on.
    """
    feeds = load.feeds(vocab_size)

    by_name = {(c.model, c.engine): c for c in contestants}
    turns = {name: partial(contestant.answer, feeds) for name, contestant in by_name.items()}
    seconds = take_turns(turns, rounds, lambda name: done(f"{load.name}: {' '.join(name)}"))
    results = []
    for (model, engine), times in seconds.items():
        operations = sum(map(by_name[model, engine].floor_operations, load.lengths))
        peak = peaks.get(precision(engine), 0.0)
        results.append(Timing(model, engine, load.name, load.tokens, tuple(times), operations / peak if peak else 0.0))
    return results


def find(results: Sequence[Timing], model: str, engine: str, load: str) -> Timing | None:
    """One of the results, if it is there."""
    return next((r for r in results if (r.model, r.engine, r.load) == (model, engine, load)), None)


def described(results: Sequence[Timing]) -> list[dict[str, Any]]:
    """For the JSON file: milliseconds, tokens a second, the floor, and how many times as fast as the references."""
    rows = []
    for result in results:
        row: dict[str, Any] = {
            "model": result.model,
            "engine": result.engine,
            "load": result.load,
            "ms": vars(Spread.of(result.seconds).scaled(1000)),
            "tokens_per_second": result.tokens / result.median,
            "floor_ms": 1000 * result.floor or None,
        }
        for reference in REFERENCES:
            other = find(results, reference, REFERENCE_ENGINE, result.load)
            if other is not None:
                row[f"times {reference} {REFERENCE_ENGINE}"] = vars(result.times_as_fast(other))
        rows.append(row)
    return rows


def like_for_like(results: Sequence[Timing], model: str) -> list[dict[str, Any]]:
    """How many times as fast as each other model a model is, in the same engine and precision."""
    rows = []
    for own in results:
        if own.model != model:
            continue
        others = [r for r in results if (r.engine, r.load) == (own.engine, own.load) and r.model != model]
        if others:
            ratios = {other.model: vars(own.times_as_fast(other)) for other in others}
            rows.append({"model": model, "engine": own.engine, "load": own.load, "times": ratios})
    return rows
