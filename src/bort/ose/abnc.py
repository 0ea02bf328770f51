"""The weak AB^nC property, which lets a space be ordered by cost (arXiv 2010.08512)."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

from bort.ose.cost import Split
from bort.ose.space import Shape

_ROUNDING = 1 + 1e-9
_AXES = ("depth", "heads", "hidden size", "intermediate size")


def lacking(members: Sequence[Shape], costs: dict[str, Callable[[Shape], Split]]) -> str | None:
    """Say where a space lacks the weak AB^nC property; None where it has it.

    The property is about growth: the cost of A and C grows no faster than that of the layers B. On a grid: from a
    member to the next along any axis, the cost of the layers does not fall, and that of embeddings and head is
    multiplied by no more than that of the layers is.

    Args:
        members: Of the space.
        costs: By name (parameters, time) what a member costs, split into A and C, and B.
    """
    for axis, title in enumerate(_AXES):
        lines: dict[tuple[int, ...], list[Shape]] = defaultdict(list)
        for shape in members:
            lines[shape[:axis] + shape[axis + 1 :]].append(shape)
        for line in lines.values():
            for less, more in itertools.pairwise(sorted(line, key=lambda shape: shape[axis])):
                for name, cost in costs.items():
                    before, after = cost(less), cost(more)
                    if after.layers * _ROUNDING < before.layers:
                        return f"the {name} of the layers fall with the {title} from {less} to {more}"
                    if after.outer * before.layers > before.outer * after.layers * _ROUNDING:
                        times = after.outer / before.outer, after.layers / before.layers
                        return (
                            f"from {less} to {more} the {name} of the embeddings grow {times[0]:.2f}-fold, "
                            f"those of the layers {times[1]:.2f}-fold"
                        )
    return None
