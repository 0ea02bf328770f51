"""Lengths of texts in tokens, compared with the length at which a model truncates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts of one part, in tokens.

    Attributes:
        median: Length that half of the texts do not exceed.
        most: Length that 95 % of the texts do not exceed.
        longest: Length of the longest text.
        limit: Length at which longer texts are truncated.
        cut: Number of longer texts.
    """

    median: int
    most: int
    longest: int
    limit: int
    cut: int


def lengths_of(tokens: Sequence[int], limit: int) -> Lengths:
    """Summarise lengths.

    Args:
        tokens: Tokens of each text; at least one text.
        limit: Length at which longer texts are truncated.

    Example:
        >>> lengths_of([3, 5, 200], limit=128)
        Lengths(median=5, most=200, longest=200, limit=128, cut=1)
    """
    counted = np.array(tokens)
    median, most = (int(np.quantile(counted, share, method="higher")) for share in (0.5, 0.95))
    return Lengths(median, most, int(counted.max()), limit, int((counted > limit).sum()))
