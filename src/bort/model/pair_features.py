"""Features that a head computes from the vectors of two texts, and the name of the model with such a head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BI_ENCODER = "BortBiEncoderForSequenceClassification"
"""Name of the architecture in config.json."""
PRODUCT_WEIGHT = 3.0
"""Weight of a . b among the features of a pair; chosen by cross-validation for vectors of length 1."""


def pair_features(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Concatenate a, b, |a - b|, a * b and the weighted a . b. *Shape:* (pairs, D) twice -> (pairs, 4 D + 1).

    A regularised head hardly learns from few pairs that similar texts belong together; the weighted dot product
    states it in one number.
    """
    product = PRODUCT_WEIGHT * np.sum(a * b, axis=-1, keepdims=True)
    return np.hstack([a, b, np.abs(a - b), a * b, product])
