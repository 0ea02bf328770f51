"""What is searched: shapes of a BERT encoder, as a grid of depths, heads, hidden and intermediate sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bort.errors import BortError
from bort.files import read_yaml

_LARGEST = 100_000
_AXES = ("depth", "heads", "hidden", "intermediate")


class Shape(NamedTuple):
    """An architecture: depth D, heads A, hidden size H, intermediate size I."""

    depth: int
    heads: int
    hidden: int
    intermediate: int

    def __str__(self) -> str:
        return f"⟨{','.join(map(str, self))}⟩"

    @property
    def name(self) -> str:
        """For files: the four numbers."""
        return "-".join(map(str, self))


@dataclass(frozen=True)
class SearchSpace:
    """All combinations in which the heads divide the hidden size.

    Args:
        depth: Numbers of layers.
        heads: Numbers of attention heads.
        hidden: Hidden sizes.
        intermediate: Sizes of the feed-forward layers.
        about: Where it comes from.

    Raises:
        BortError: An axis is empty, holds a number twice or one below 1; no combination has heads that divide the
            hidden size; there are more than 100,000.
    """

    depth: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    intermediate: tuple[int, ...]
    about: str = ""

    def __post_init__(self) -> None:
        size = 1
        for name in _AXES:
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
            raise BortError("no number of heads divides any of the hidden sizes", column="heads", value=[*self.heads])

    @cached_property
    def members(self) -> tuple[Shape, ...]:
        """Every shape, by depth, heads, hidden and intermediate size."""
        grid = itertools.product(*(sorted(getattr(self, name)) for name in _AXES))
        return tuple(shape for shape in itertools.starmap(Shape, grid) if shape.hidden % shape.heads == 0)

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
    """A named space, or one from a YAML file that gives a list of numbers for each of the four axes.

    Raises:
        BortError: Neither, or the file breaks a rule; with its line.
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
        if name not in _AXES:
            raise BortError(f"is none of {', '.join(_AXES)}", file=path, line=line, column=str(name))
        if name in axes:
            raise BortError("must be given once", file=path, line=line, column=name)
        axes[name], lines[name] = _numbers(path, name, value), line
    if lacking := [name for name in _AXES if name not in axes]:
        raise BortError(f"needs a list for {', '.join(lacking)}", file=path)
    try:
        return SearchSpace(**axes, about=f"of {path.name}")
    except BortError as error:
        line = lines.get(error.column or "")
        raise BortError(error.rule, file=path, line=line, column=error.column) from None


def _entries(path: Path) -> list[tuple[Any, Any]]:
    """The nodes of a mapping, which know their lines."""
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
