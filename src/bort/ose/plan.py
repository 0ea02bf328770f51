"""The plan of a search, before anything is trained: the space, its costs, its order, and the budgets."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.model.config import Preset, configure
from bort.model.devices import best_device
from bort.ose.arguments import ExtractArguments
from bort.ose.cost import LEAST_TIMED, Split, TimePolynomial, fit_polynomial, operations, parameters, sample, time_ms
from bort.ose.criteria import Cost, lacking
from bort.ose.ordering import Bound, Ordering, order
from bort.ose.space import SearchSpace, Shape, around, check_within, read_space
from bort.progress import bar

if TYPE_CHECKING:
    from transformers import BertConfig

    from bort.ose.inherited import InheritedEncoder

TIMINGS = "timings.json"
_ROUNDS = 3


@dataclass(frozen=True)
class Costs:
    """The costs of shapes.

    Args:
        vocab_size: V, if shapes do not give it.
        positions: Rows of the position embedding.
        sequence_length: Tokens per text at inference.
        batch_size: Texts per timed inference.
        token_types: Rows of the token-type embedding.
        pad_token_id: Id of the padding token.
        measured: Whether î is milliseconds; otherwise it is counted operations.
        latency: Predicts milliseconds, if members were timed.
        timed: The times that `latency` was fitted to, in ms.
    """

    vocab_size: int
    positions: int
    sequence_length: int
    batch_size: int = 1
    token_types: int = 1
    pad_token_id: int = 1
    measured: bool = False
    latency: TimePolynomial | None = None
    timed: Mapping[Shape, float] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The unit of î."""
        return "ms" if self.measured else "operations"

    def parameters(self, shape: Shape) -> Split:
        """p̂ of a shape."""
        return parameters(shape, vocab_size=self.vocab_size, positions=self.positions, token_types=self.token_types)

    def time(self, shape: Shape) -> Split:
        """î of a shape."""
        if self.measured and self.latency is not None:
            return self.latency(shape)
        return operations(shape, sequence_length=self.sequence_length)

    def count(self, shape: Shape) -> float:
        """Parameters of the whole encoder."""
        return self.parameters(shape).total

    def latency_ms(self, shape: Shape) -> float:
        """Milliseconds per inference; members must have been timed."""
        assert self.latency is not None
        return self.latency(shape).total

    def __call__(self, shape: Shape) -> Cost:
        """p̂ and î of a shape."""
        return Cost(self.parameters(shape).total, self.time(shape).total)

    def config(self, shape: Shape) -> BertConfig:
        """The configuration of a shape."""
        vocab_size = shape.vocabulary or self.vocab_size
        preset = Preset(shape.depth, shape.heads, shape.hidden, shape.intermediate, positions=self.positions)
        return configure(preset, vocab_size, self.pad_token_id)

    def with_times(self, timed: Mapping[Shape, float]) -> Costs:
        """The same costs, with a polynomial fitted to the milliseconds of some members."""
        return replace(self, latency=fit_polynomial(timed), timed=timed)

    def timings(self) -> dict[str, Any]:
        """The contents of `timings.json`."""
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "timed": [[list(shape), ms] for shape, ms in self.timed.items()],
            "polynomial": None if self.latency is None else self.latency.described(),
        }


@dataclass(frozen=True)
class SearchPlan:
    """The plan of a search.

    Args:
        space: The search space.
        costs: The costs of its members.
        top: The shape of the maximum point T.
        ordering: The space sorted by cost, in blocks.
        warning: Where the space lacks the weak AB^nC property; None if it has it.
    """

    space: SearchSpace
    costs: Costs
    top: Shape
    ordering: Ordering[Shape]
    warning: str | None


def make_plan(
    arguments: ExtractArguments, vocab_size: int, inherited: InheritedEncoder | None = None, pad_token_id: int = 1
) -> SearchPlan:
    """Read the space, time some members if required, sort the space, and check that the budgets can be satisfied.

    Args:
        arguments: Settings of the run. A resumed run reads its timings from OUT.
        vocab_size: V.
        inherited: The encoder whose parts are the members; it is T.
        pad_token_id: Id of the tokenizer's padding token.

    Raises:
        BortError: An invalid space, no maximum point, too few positions, or a budget that no member satisfies.
    """
    costs = Costs(
        vocab_size,
        arguments.positions,
        arguments.sequence_length,
        arguments.batch_size,
        pad_token_id=pad_token_id,
        measured=arguments.time == "measured",
    )
    top = None if arguments.maximum is None else read_shape(arguments.maximum)
    if inherited is None:
        space = read_space(arguments.space or "nano")
        if space.vocabulary:
            raise BortError("can be searched with --inherit only", setting="space", column="vocabulary")
    else:
        config = inherited.config
        least = inherited.least_vocabulary
        space = around(config, least) if arguments.space is None else read_space(arguments.space)
        check_within(space, inherited.numbers, least, inherited.source)
        # Rows that pad the word embedding are no entries of the vocabulary; only the whole encoder keeps them.
        sizes = [size if size == config.vocab_size else min(size, inherited.entries) for size in space.vocabulary]
        width = config.hidden_size // config.num_attention_heads
        space = replace(space, vocabulary=tuple(dict.fromkeys(sizes)), head_width=width)
        costs = replace(costs, positions=config.max_position_embeddings, token_types=config.type_vocab_size)
        arguments.check_lengths(costs.positions)
        top = inherited.top(space)
    if costs.measured or arguments.max_latency_ms is not None:
        costs = costs.with_times(_timed(arguments, space, costs, top))
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
        ordering=ordering,
        warning=lacking(space.members, {"parameters": costs.parameters, "time": costs.time}),
    )


def read_shape(text: str) -> Shape:
    """Parse a shape from D,A,H,I.

    Raises:
        BortError: The text is not four whole numbers above 0, or the heads do not divide the hidden size.
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


def _timed(arguments: ExtractArguments, space: SearchSpace, costs: Costs, top: Shape | None) -> dict[Shape, float]:
    """Milliseconds of a sample of the space, from the run to resume or measured now.

    If times are part of W, T is among them, since its own time is in every W.
    """
    file = Path(arguments.out) / TIMINGS
    if arguments.resume and file.is_file():
        try:
            return {Shape(*shape): float(ms) for shape, ms in json.loads(file.read_text("utf-8"))["timed"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BortError("must hold the timings of a search; remove it to time again", file=file) from None
    # The vocabulary size does not change the time, and the polynomial has no term for it.
    members = [shape for shape in space.members if shape.vocabulary in (None, max(space.vocabulary, default=0))]
    chosen = sample(members, arguments.timed_members)
    if costs.measured:
        top = top or max(members, key=lambda shape: (costs.count(shape), shape))
        chosen = list(dict.fromkeys([top, *chosen]))[: arguments.timed_members]
    if len(chosen) < LEAST_TIMED:
        rule = f"measured times need a space of at least {LEAST_TIMED} members, not {len(chosen)}"
        raise BortError(rule, setting="space", value=arguments.space)
    return measure(chosen, costs)


def measure(shapes: list[Shape], costs: Costs) -> dict[Shape, float]:
    """Time each shape on this device, in ms: the median of three rounds, so that a brief slowdown has little effect.

    Args:
        shapes: The shapes to time.
        costs: Batch size, length and vocabulary.
    """
    found: dict[Shape, list[float]] = {shape: [] for shape in shapes}
    with bar("timing members", _ROUNDS * len(shapes)) as shown:
        for done, shape in enumerate(_ROUNDS * shapes):
            shown.update(done, str(shape))
            ms = time_ms(
                costs.config(shape),
                batch_size=costs.batch_size,
                sequence_length=costs.sequence_length,
                device=best_device(),
            )
            found[shape].append(ms)
    return {shape: statistics.median(times) for shape, times in found.items()}
