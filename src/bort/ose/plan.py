"""What a search is about, before anything is trained: the space, its costs, its order, and the budgets."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bort.errors import BortError
from bort.model.config import Preset, configure
from bort.model.devices import best_device
from bort.ose.algorithm import Bound, Ordering, order
from bort.ose.arguments import ExtractArguments
from bort.ose.cost import LEAST_TIMED, Split, TimePolynomial, fit_polynomial, operations, parameters, sample, time_ms
from bort.ose.criteria import Cost, lacking
from bort.ose.space import SearchSpace, Shape, read_space
from bort.progress import bar

if TYPE_CHECKING:
    from transformers import BertConfig

TIMINGS = "timings.json"
_ROUNDS = 3


@dataclass(frozen=True)
class Costs:
    """What shapes cost.

    Args:
        vocab_size: V.
        positions: Rows of the position embedding.
        sequence_length: Tokens of a text at inference.
        latency: Milliseconds, where members were timed.
        measured: Whether those are î; else it is counted operations.
        timed: What `latency` was fitted to, in ms.
    """

    vocab_size: int
    positions: int
    sequence_length: int
    latency: TimePolynomial | None
    measured: bool
    timed: Mapping[Shape, float]

    @property
    def unit(self) -> str:
        """Of î."""
        return "ms" if self.measured else "operations"

    def parameters(self, shape: Shape) -> Split:
        """p̂ of a shape."""
        return parameters(shape, vocab_size=self.vocab_size, positions=self.positions)

    def time(self, shape: Shape) -> Split:
        """î of a shape."""
        if self.measured and self.latency is not None:
            return self.latency(shape)
        return operations(shape, sequence_length=self.sequence_length)

    def count(self, shape: Shape) -> float:
        """Parameters of the whole encoder."""
        return self.parameters(shape).total

    def latency_ms(self, shape: Shape) -> float:
        """Milliseconds of an inference, where members were timed."""
        assert self.latency is not None
        return self.latency(shape).total

    def __call__(self, shape: Shape) -> Cost:
        """Both."""
        return Cost(self.parameters(shape).total, self.time(shape).total)

    def config(self, shape: Shape, pad_token_id: int = 1) -> BertConfig:
        """The shape as a configuration."""
        return configure(Preset(*shape, positions=self.positions), self.vocab_size, pad_token_id)


@dataclass(frozen=True)
class SearchPlan:
    """A search to be.

    Args:
        space: What is searched.
        costs: Of its members.
        top: The shape of the maximum point T.
        budgets: What members must keep.
        ordering: The space by cost, in blocks.
        warning: Where the space lacks the weak AB^nC property.
    """

    space: SearchSpace
    costs: Costs
    top: Shape
    budgets: tuple[Bound[Shape], ...]
    ordering: Ordering[Shape]
    warning: str | None


def make_plan(arguments: ExtractArguments, vocab_size: int) -> SearchPlan:
    """Read the space, time some members where that is asked for, order it, and see that the budgets can be kept.

    Args:
        arguments: Of the run. On resuming, its timings are read from OUT.
        vocab_size: V.

    Raises:
        BortError: A bad space, no maximum point, a budget that no member keeps.
    """
    space = read_space(arguments.space)
    top = None if arguments.maximum is None else read_shape(arguments.maximum)
    measured = arguments.time == "measured"
    latency, timed = None, {}
    if measured or arguments.max_latency_ms is not None:
        timed = _timed(arguments, space, vocab_size)
        latency = fit_polynomial(timed)
    costs = Costs(vocab_size, arguments.positions, arguments.sequence_length, latency, measured, timed)
    budgets: list[Bound[Shape]] = []
    if arguments.max_parameters is not None:
        budgets.append(Bound("parameters", costs.count, arguments.max_parameters))
    if arguments.max_latency_ms is not None:
        budgets.append(Bound("milliseconds", costs.latency_ms, arguments.max_latency_ms))
    ordering = order(
        space,
        costs,
        epsilon=arguments.epsilon,
        maximum=None if top is None else costs(top),
        budgets=budgets,
    )
    return SearchPlan(
        space=space,
        costs=costs,
        top=ordering.members[-1].member if top is None else top,
        budgets=tuple(budgets),
        ordering=ordering,
        warning=lacking(space.members, {"parameters": costs.parameters, "time": costs.time}),
    )


def read_shape(text: str) -> Shape:
    """A shape from D,A,H,I.

    Raises:
        BortError: Not four whole numbers, or heads that do not divide the hidden size.
    """
    parts = text.strip("⟨⟩<>() ").split(",")
    if len(parts) != 4 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise BortError("must be four whole numbers, D,A,H,I", setting="maximum", value=text)
    shape = Shape(*(int(part) for part in parts))
    if min(shape) < 1 or max(shape) > 10**9:
        raise BortError("must be four whole numbers above 0", setting="maximum", value=text)
    if shape.hidden % shape.heads:
        raise BortError(f"the {shape.heads} heads must divide the hidden size", setting="maximum", value=text)
    return shape


def _timed(arguments: ExtractArguments, space: SearchSpace, vocab_size: int) -> dict[Shape, float]:
    """Milliseconds of a sample of the space: those of the run to resume, or new ones."""
    file = Path(arguments.out) / TIMINGS
    if arguments.resume and file.is_file():
        return {Shape(*shape): ms for shape, ms in json.loads(file.read_text("utf-8"))["timed"]}
    chosen = sample(space.members, arguments.timed_members)
    if len(chosen) < LEAST_TIMED:
        rule = f"measured times need a space of at least {LEAST_TIMED} members, not {len(chosen)}"
        raise BortError(rule, setting="space", value=arguments.space)
    return measure(chosen, arguments, vocab_size)


def measure(shapes: list[Shape], arguments: ExtractArguments, vocab_size: int) -> dict[Shape, float]:
    """Milliseconds of each shape on this device: the median of three rounds, so that a slow moment falls on few.

    Args:
        shapes: Which.
        arguments: Batch and length.
        vocab_size: V.
    """
    counted = Costs(vocab_size, arguments.positions, arguments.sequence_length, None, False, {})
    found: dict[Shape, list[float]] = {shape: [] for shape in shapes}
    with bar("timing members", _ROUNDS * len(shapes)) as shown:
        for done, shape in enumerate(_ROUNDS * shapes):
            shown.update(done, str(shape))
            ms = time_ms(
                counted.config(shape),
                batch_size=arguments.batch_size,
                sequence_length=arguments.sequence_length,
                device=best_device(),
            )
            found[shape].append(ms)
    return {shape: statistics.median(times) for shape, times in found.items()}


def timings(plan: SearchPlan, arguments: ExtractArguments) -> dict[str, object]:
    """What `timings.json` holds."""
    return {
        "batch_size": arguments.batch_size,
        "sequence_length": arguments.sequence_length,
        "timed": [[list(shape), ms] for shape, ms in plan.costs.timed.items()],
        "polynomial": None if plan.costs.latency is None else plan.costs.latency.described(),
    }
