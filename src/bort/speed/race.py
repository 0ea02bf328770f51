"""The race: all contestants over all loads, in turn, and the ratios of their times."""

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
"""What the paper compares with."""


@dataclass(frozen=True)
class Load:
    """Texts that are asked about, in one list or in several, one list after the other.

    Args:
        name: For people.
        lengths: Tokens of each text.
        at_once: Texts of a list; 0 where all are asked about at once.
    """

    name: str
    lengths: tuple[int, ...]
    at_once: int = 0

    @property
    def tokens(self) -> int:
        """Of all texts, padding not counted."""
        return sum(self.lengths)

    @property
    def lists(self) -> list[Load]:
        """Each list alone."""
        size = self.at_once or len(self.lengths)
        return [Load(self.name, self.lengths[start : start + size]) for start in range(0, len(self.lengths), size)]

    @property
    def batches(self) -> list[list[int]]:
        """The texts in batches of like length, for an engine that does not cut them itself."""
        return token_budget_batches(self.lengths, max_tokens=MOST_TOKENS, max_rows=MOST_TOKENS)

    def tokens_of(self, vocab_size: int, *, types: bool) -> TokenizedExamples:
        """Random token ids of these lengths, all in one.

        Args:
            vocab_size: Ids stay below it.
            types: Whether kinds of tokens are given, too, all 0.
        """
        rng = np.random.default_rng(0)
        columns = {"input_ids": [rng.integers(_FIRST_WORD, vocab_size, length).tolist() for length in self.lengths]}
        if types:
            columns["token_type_ids"] = [[0] * length for length in self.lengths]
        return TokenizedExamples(columns, 0)


def fixed(batch_size: int, sequence_length: int) -> Load:
    """One batch of texts of one length."""
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

    At each turn a function first runs once untimed: what ran before has taken its place in the caches, and the threads
    of the other library may still wait there for work. Then a short one runs a few times, of which the median counts.
    For one that takes seconds the caches matter little, and its first call counts.

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


@dataclass(frozen=True)
class Timing:
    """A contestant's times over a load.

    Args:
        model: Its name.
        engine: Its engine and precision.
        load: What was asked.
        seconds: Of each round.
    """

    model: str
    engine: str
    load: Load
    seconds: tuple[float, ...]

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
    done: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time all contestants over a load.

    Args:
        contestants: Loaded.
        load: What is asked.
        rounds: Turns of each.
        vocab_size: Token ids stay below it.
        done: Called after each turn with what is going on.
    """
    turns = {(c.model, c.engine): c.prepare(load, vocab_size) for c in contestants}
    seconds = take_turns(turns, rounds, lambda name: done(f"{load.name}: {' '.join(name)}"))
    return [Timing(model, engine, load, tuple(times)) for (model, engine), times in seconds.items()]


def described(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """For the JSON file: milliseconds, tokens a second, and how many times as fast as the references."""
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
    """How many times as fast as each other model a model is, in the same engine and precision."""
    rows = []
    for own in timings:
        others = [t for t in timings if (t.engine, t.load) == (own.engine, own.load) and t.model != model]
        if own.model == model and others:
            ratios = {other.model: vars(own.times_as_fast(other)) for other in others}
            rows.append({"model": model, "engine": own.engine, "load": own.load.name, "times": ratios})
    return rows
