"""What a head reads of the vectors of two texts, and the name of the model that has such a head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BI_ENCODER = "BortBiEncoderForSequenceClassification"
"""The architecture in config.json."""
PRODUCT_WEIGHT = 3.0
"""Of a . b beside the other features of a pair; chosen by cross-validation for vectors of length 1."""


def pair_features(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """a, b, |a - b|, a * b and their weighted sum a . b side by side. *Shape:* (pairs, D) twice -> (pairs, 4 D + 1).

    A regularised head finds it hard to learn from few pairs that near texts belong together; the weighted product of
    the two says so in one number.
    """
    product = PRODUCT_WEIGHT * np.sum(a * b, axis=-1, keepdims=True)
    return np.hstack([a, b, np.abs(a - b), a * b, product])
