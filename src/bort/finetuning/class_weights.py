"""Weights that let rare labels count as much as frequent ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_weights(targets: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Return a weight for each class, or for the positive examples of each of several labels: the rarer, the greater.

    Args:
        targets: Classes, *shape* (examples,); or 0 and 1 or probabilities, *shape* (examples, classes).
        classes: Number of classes or labels.

    Returns:
        *Shape:* (classes,).

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), 2).round(2).tolist()
        [0.67, 2.0]
    """
    counts = targets.sum(0) if targets.ndim == 2 else np.bincount(targets.astype(np.int64), minlength=classes)
    return np.asarray(counts.sum() / (classes * np.maximum(counts, 1)), dtype=np.float64)
