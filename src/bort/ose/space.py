"""The search space: shapes of a BERT encoder, a grid of depths, heads, hidden, intermediate and vocabulary sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bort.errors import BortError
from bort.files import read_yaml

if TYPE_CHECKING:
    from transformers import BertConfig

_LARGEST = 100_000
_AXES = ("depth", "heads", "hidden", "intermediate")
_ALL_AXES = (*_AXES, "vocabulary")


class Shape(tuple[int, ...]):
    """An architecture: depth D, heads A, hidden size H, intermediate size I; and V if vocabularies are searched too.

    Args:
        depth: Number of layers.
        heads: Attention heads per layer.
        hidden: Width of the hidden states.
        intermediate: Width of the feed-forward layers.
        vocabulary: Vocabulary size; None, and not part of the tuple, if all members have the tokenizer's own.
    """

    __slots__ = ()
    _fields: ClassVar = _AXES

    def __new__(cls, depth: int, heads: int, hidden: int, intermediate: int, vocabulary: int | None = None) -> Shape:
        """See the class."""
        numbers = (depth, heads, hidden, intermediate)
        return super().__new__(cls, numbers if vocabulary is None else (*numbers, vocabulary))

    def __getnewargs__(self) -> tuple[int, ...]:
        return tuple(self)

    def __str__(self) -> str:
        return f"⟨{','.join(map(str, self))}⟩"

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Shape:
        """Create a shape from numbers by name; other names are ignored."""
        return cls(*(int(numbers[axis]) for axis in _ALL_AXES if axis in numbers))

    def _asdict(self) -> dict[str, int]:
        return dict(zip(_ALL_AXES, self, strict=False))

    @property
    def depth(self) -> int:
        """D."""
        return self[0]

    @property
    def heads(self) -> int:
        """A."""
        return self[1]

    @property
    def hidden(self) -> int:
        """H."""
        return self[2]

    @property
    def intermediate(self) -> int:
        """I."""
        return self[3]

    @property
    def vocabulary(self) -> int | None:
        """V, if vocabularies are searched."""
        return self[4] if len(self) > 4 else None

    @property
    def name(self) -> str:
        """The numbers joined by hyphens, for file names."""
        return "-".join(map(str, self))


@dataclass(frozen=True)
class SearchSpace:
    """All combinations in which the heads divide the hidden size.

    Args:
        depth: Numbers of layers.
        heads: Numbers of attention heads.
        hidden: Hidden sizes.
        intermediate: Sizes of the feed-forward layers.
        about: Where the space comes from.
        vocabulary: Vocabulary sizes; empty if they are not searched.
        head_width: Width of the heads of the encoder whose weights members inherit: a member's heads must be at most
            as wide, or a multiple as wide.

    Raises:
        BortError: An axis is empty, has a number twice or one below 1; no combination is possible; there are more than
            100,000.
    """

    depth: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    intermediate: tuple[int, ...]
    about: str = ""
    vocabulary: tuple[int, ...] = ()
    head_width: int | None = None

    def __post_init__(self) -> None:
        size = 1
        for name in self.axes:
            axis = getattr(self, name)
            if not axis:
                raise BortError("must hold at least one number", column=name, value=list(axis))
            for place, value in enumerate(axis):
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise BortError("must be a whole number above 0", column=name, value=value)
                if value in axis[:place]:
                    raise BortError("must be there once", column=name, value=value)
            size *= len(axis)
        if size > _LARGEST:
            raise BortError(f"must have at most {_LARGEST:,} combinations", value=size)
        if not self.members:
            rule = "no number of heads divides any of the hidden sizes"
            if self.head_width is not None:
                rule += f" into widths that the encoder's of {self.head_width} can be made into"
            raise BortError(rule, column="heads", value=[*self.heads])

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the searched axes."""
        return _ALL_AXES if self.vocabulary else _AXES

    @cached_property
    def members(self) -> tuple[Shape, ...]:
        """All shapes, sorted by depth, heads, hidden, intermediate and vocabulary size."""
        grid = itertools.product(*(sorted(getattr(self, name)) for name in self.axes))
        return tuple(shape for shape in itertools.starmap(Shape, grid) if self._can_be_built(shape))

    def _can_be_built(self, shape: Shape) -> bool:
        if shape.hidden % shape.heads:
            return False
        width, old = shape.hidden // shape.heads, self.head_width
        return old is None or width <= old or width % old == 0

    def __iter__(self) -> Iterator[Shape]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


SPACES: dict[str, SearchSpace] = {
    "paper": SearchSpace(
        depth=(2, 4, 6, 8, 10, 12),
        heads=(4, 8, 12, 16),
        hidden=(512, 768, 1024),
        intermediate=(256, 512, 768, 1024, 3072),
        about="the space of arXiv 2010.10499",
    ),
    "nano": SearchSpace(
        depth=(1, 2, 3, 4, 6),
        heads=(4, 6, 12),
        hidden=(192, 288, 384, 480, 576),
        intermediate=(512, 768, 1024, 1536),
        about="around the shape of bort-nano",
    ),
}
"""Named spaces; each has 300 members."""


def read_space(source: str | Path) -> SearchSpace:
    """A named space, or one from a YAML file with a list of numbers for each axis; only `vocabulary` is optional.

    Raises:
        BortError: Neither a name nor a file, or the file is invalid; the message gives the line.
    """
    if str(source) in SPACES:
        return SPACES[str(source)]
    path = Path(source)
    if not path.is_file():
        raise BortError(f"is neither a space ({', '.join(SPACES)}) nor a file", setting="space", value=str(source))
    axes: dict[str, tuple[int, ...]] = {}
    lines: dict[str, int] = {}
    for key, value in _entries(path):
        name, line = key.value, key.start_mark.line + 1
        if name not in _ALL_AXES:
            raise BortError(f"is none of {', '.join(_ALL_AXES)}", file=path, line=line, column=str(name))
        if name in axes:
            raise BortError("must be given once", file=path, line=line, column=name)
        axes[name], lines[name] = _numbers(path, name, value), line
    if lacking := [name for name in _AXES if name not in axes]:
        raise BortError(f"needs a list for {', '.join(lacking)}", file=path)
    try:
        return SearchSpace(about=f"of {path.name}", **axes)  # type: ignore[arg-type]  # no axis is a width
    except BortError as error:
        line = lines.get(error.column or "")
        raise BortError(error.rule, file=path, line=line, column=error.column) from None


def _entries(path: Path) -> list[tuple[Any, Any]]:
    """The nodes of a mapping, with their line numbers."""
    import yaml

    root = read_yaml(path, lambda text: yaml.compose(text, Loader=yaml.SafeLoader))
    if not isinstance(root, yaml.MappingNode):
        raise BortError(f"must map {', '.join(_AXES)} to lists of numbers", file=path, line=1)
    for key, _ in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise BortError(f"must be one of {', '.join(_AXES)}", file=path, line=key.start_mark.line + 1)
    return list(root.value)


def _numbers(path: Path, name: str, node: Any) -> tuple[int, ...]:
    import yaml

    line = node.start_mark.line + 1
    if not isinstance(node, yaml.SequenceNode):
        shown = node.value if isinstance(node, yaml.ScalarNode) else "…"
        raise BortError("must be a list, such as [2, 4]", file=path, line=line, column=name, value=shown)
    numbers: list[int] = []
    for item in node.value:
        shown = item.value if isinstance(item, yaml.ScalarNode) else "…"
        digits = shown if item.tag == "tag:yaml.org,2002:int" else ""
        line = item.start_mark.line + 1
        if not (digits.isascii() and digits.isdigit() and int(digits[:19]) > 0) or len(digits) > 9:
            rule = "must be a whole number above 0 and below a thousand million"
            raise BortError(rule, file=path, line=line, column=name, value=shown)
        if int(digits) in numbers:
            raise BortError("must be there once", file=path, line=line, column=name, value=int(digits))
        numbers.append(int(digits))
    return tuple(numbers)


def around(config: BertConfig, least_vocabulary: int = 1) -> SearchSpace:
    """The default space for parts of an encoder: up to six depths, and fractions of the other sizes.

    The hidden size is the encoder's, because vectors that are compared must have the same width.

    Args:
        config: Configuration of the encoder.
        least_vocabulary: Minimum vocabulary size.
    """
    whole, heads, vocabulary = config.num_hidden_layers, config.num_attention_heads, config.vocab_size

    def parts(number: int, *divisors: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys(number // divisor for divisor in divisors if number >= divisor))

    return SearchSpace(
        depth=tuple(sorted({max(1, round(whole * sixth / 6)) for sixth in range(1, 7)})),
        heads=tuple(part for part in parts(heads, 1, 2) if heads % part == 0),
        hidden=(config.hidden_size,),
        intermediate=parts(config.intermediate_size, 1, 2, 4),
        about="around the encoder",
        vocabulary=tuple(size for size in parts(vocabulary, 1, 2, 4) if size >= least_vocabulary) or (vocabulary,),
    )


def check_within(space: SearchSpace, most: Sequence[int], least_vocabulary: int, source: str) -> None:
    """Check that the members of a space can be parts of an encoder.

    Args:
        space: The space whose members shall inherit weights.
        most: The encoder's own numbers, in the order of the axes.
        least_vocabulary: Minimum vocabulary size.
        source: Name of the encoder, for messages.

    Raises:
        BortError: A number is too large, or a vocabulary is too small.
    """
    if (smallest := min(space.vocabulary, default=least_vocabulary)) < least_vocabulary:
        rule = f"must be at least {least_vocabulary}: the special tokens and the characters of {source}"
        raise BortError(rule, column="vocabulary", value=smallest)
    for axis, own in zip(_ALL_AXES, most, strict=True):
        if (largest := max(getattr(space, axis), default=0)) > own:
            raise BortError(f"must be at most the {own} of {source}", column=axis, value=largest)
