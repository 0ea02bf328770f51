"""Timing of all contestants on all loads, in turn, and the ratios of their times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bort.data.batches import token_budget_batches
from bort.predict.costs import MOST_TOKENS
from bort.predict.encoding import TokenizedExamples

if TYPE_CHECKING:
    from bort.speed.contestants import Contestant

_FIRST_WORD = 5
_LEAST_SECONDS, _LONG_SECONDS, _MOST_CALLS = 0.03, 2.0, 10
REFERENCES, REFERENCE_ENGINE = ("bert-large", "bert-base"), "torch-eager"
"""The models and the engine that the paper compares with."""


@dataclass(frozen=True)
class Load:
    """Texts to compute, in one list or in several consecutive lists.

    Args:
        name: Name to show.
        lengths: Length of each text in tokens.
        at_once: Texts per list; 0 for all in one list.
    """

    name: str
    lengths: tuple[int, ...]
    at_once: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens of all texts, not counting padding."""
        return sum(self.lengths)

    @property
    def lists(self) -> list[Load]:
        """Each list as a load of its own."""
        size = self.at_once or len(self.lengths)
        return [Load(self.name, self.lengths[start : start + size]) for start in range(0, len(self.lengths), size)]

    @property
    def batches(self) -> list[list[int]]:
        """The texts in batches of similar length, for an engine that does not batch them itself."""
        return token_budget_batches(self.lengths, max_tokens=MOST_TOKENS, max_rows=MOST_TOKENS)

    def tokens_of(self, vocab_size: int, *, types: bool) -> TokenizedExamples:
        """Random token ids for all texts together.

        Args:
            vocab_size: Token ids are below this.
            types: Whether to add token types, all 0.
        """
        rng = np.random.default_rng(0)
        columns = {"input_ids": [rng.integers(_FIRST_WORD, vocab_size, length).tolist() for length in self.lengths]}
        if types:
            columns["token_type_ids"] = [[0] * length for length in self.lengths]
        return TokenizedExamples(columns)


def fixed(batch_size: int, sequence_length: int) -> Load:
    """One batch of texts of the same length."""
    name = f"{batch_size} x {sequence_length} tokens" if batch_size > 1 else f"{sequence_length} tokens"
    return Load(name, (sequence_length,) * batch_size)


def natural(texts: int, at_once: int = 0) -> Load:
    """Texts of natural lengths (log-normal: half below 25 tokens, 95 % below 70, none above 224), in random order."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(25), np.log(70 / 25) / 1.645, texts))), 4, 224)
    name = f"{texts} texts of natural lengths" + (f", {at_once} at once" if at_once else "")
    return Load(name, tuple(int(length) for length in lengths), at_once)


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int = 3) -> str:
        """Format the median, with the range in parentheses."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def scaled(self, factor: float) -> Spread:
        """Convert to another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def take_turns(
    functions: Mapping[Any, Callable[[], object]], rounds: int, done: Callable[[Any], None] = lambda _: None
) -> dict[Any, list[float]]:
    """Time functions in turn, A, B, A, B, …

    In each turn, a function first runs once as a warm-up: the previous one has displaced it from the caches, and the
    threads of another library may still be waiting for work. Then it runs a few times, and the median counts. For a
    function that takes more than 2 seconds, caches matter little, and the first call counts.

    Args:
        functions: The functions to time, by name.
        rounds: Number of turns of each.
        done: Called with a function's name after its turn.

    Returns:
        The seconds of one call in each round, by name.
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


@dataclass(frozen=True)
class Timing:
    """A contestant's times for a load.

    Args:
        model: Name of the model.
        engine: Engine and precision.
        load: The load.
        seconds: Seconds of each round.
    """

    model: str
    engine: str
    load: Load
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    def times_as_fast(self, other: Timing) -> Spread:
        """How many times as fast as the other: ratio of the medians, and range of the ratios by round."""
        by_round = [theirs / own for theirs, own in zip(other.seconds, self.seconds, strict=True)]
        return Spread(other.median / self.median, min(by_round), max(by_round))


def race(
    contestants: Sequence[Contestant],
    load: Load,
    rounds: int,
    vocab_size: int,
    done: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time all contestants on a load.

    Args:
        contestants: The loaded contestants.
        load: The load.
        rounds: Number of turns of each.
        vocab_size: Token ids are below this.
        done: Called after each turn with a short note on it.
    """
    turns = {(c.model, c.engine): c.prepare(load, vocab_size) for c in contestants}
    seconds = take_turns(turns, rounds, lambda name: done(f"{load.name}: {' '.join(name)}"))
    return [Timing(model, engine, load, tuple(times)) for (model, engine), times in seconds.items()]


def described(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """Rows for the JSON file: milliseconds, tokens per second, and how many times as fast as the references."""
    rows = []
    for own in timings:
        row: dict[str, Any] = {
            "model": own.model,
            "engine": own.engine,
            "load": own.load.name,
            "ms": vars(Spread.of(own.seconds).scaled(1000)),
            "tokens_per_second": own.load.tokens / own.median,
        }
        for other in timings:
            if other.model in REFERENCES and (other.engine, other.load) == (REFERENCE_ENGINE, own.load):
                row[f"times {other.model} {REFERENCE_ENGINE}"] = vars(own.times_as_fast(other))
        rows.append(row)
    return rows


def like_for_like(timings: Sequence[Timing], model: str) -> list[dict[str, Any]]:
    """How many times as fast a model is as each other model, in the same engine and precision."""
    rows = []
    for own in timings:
        others = [t for t in timings if (t.engine, t.load) == (own.engine, own.load) and t.model != model]
        if own.model == model and others:
            ratios = {other.model: vars(own.times_as_fast(other)) for other in others}
            rows.append({"model": model, "engine": own.engine, "load": own.load.name, "times": ratios})
    return rows
