"""The W-coefficient: how much a member saves beside the maximum point, for the error that it makes."""

from __future__ import annotations

import math
from typing import NamedTuple


class Cost(NamedTuple):
    """What a member costs: parameters (p̂), and time of an inference (î) in any unit."""

    parameters: float
    time: float


def savings(cost: Cost, maximum: Cost) -> float:
    """(p̂(T) - p̂(f)) / p̂(T) · (î(T) - î(f)) / î(T): the shares of size and time that f saves, multiplied.

    0 for T itself and for what is as large or as slow; below 1 for all others.
    """
    saved_parameters = (maximum.parameters - cost.parameters) / maximum.parameters
    saved_time = (maximum.time - cost.time) / maximum.time
    return saved_parameters * saved_time


def coefficient(cost: Cost, maximum: Cost, error: float) -> float:
    """W(f), larger is better (arXiv 2010.08512): the savings, divided by ê(f).

    Args:
        cost: Of f.
        maximum: Of the maximum point T.
        error: ê(f), above 0. One that is not finite, of a training that diverged, gives 0.

    Raises:
        ValueError: The error is 0 or less.
    """
    if not math.isfinite(error):
        return 0.0
    if error <= 0:
        raise ValueError(f"an error must be above 0, not {error}")
    return savings(cost, maximum) / error
