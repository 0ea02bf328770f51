"""How long texts are, in tokens, beside the length at which a model cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lengths:
    """Of the texts of one part, in tokens.

    Attributes:
        median: Half of the texts are no longer.
        most: 95 % of the texts are no longer.
        longest: Of all; at most what the tokenizer was let read.
        limit: What is longer is cut.
        cut: How many are longer.
    """

    median: int
    most: int
    longest: int
    limit: int
    cut: int


def lengths_of(tokens: Sequence[int], limit: int) -> Lengths:
    """Describe lengths.

    Args:
        tokens: Of each text, at least one.
        limit: What is longer is cut.

    Example:
        >>> lengths_of([3, 5, 200], limit=128)
        Lengths(median=5, most=200, longest=200, limit=128, cut=1)
    """
    counted = np.array(tokens)
    median, most = (int(np.quantile(counted, share, method="higher")) for share in (0.5, 0.95))
    return Lengths(median, most, int(counted.max()), limit, int((counted > limit).sum()))
