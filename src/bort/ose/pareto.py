"""Which of several points no other beats in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Places of the points that no other dominates, in their order.

    A point dominates another if it is nowhere greater and somewhere less. Points with a figure that is not finite are
    on no front, and dominate none.

    Args:
        points: Figures of each, the less the better. *Shape:* (points, figures).
    """
    finite = [place for place, point in enumerate(points) if all(map(math.isfinite, point))]
    return [place for place in finite if not any(_dominates(points[other], points[place]) for other in finite)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
