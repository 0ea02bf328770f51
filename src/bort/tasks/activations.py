"""Probabilities from logits, in NumPy: serving needs nothing larger."""

import numpy as np

from bort.tasks.task import Outputs


def softmax(logits: Outputs) -> Outputs:
    """Return probabilities that sum to 1 along the last axis.

    Example:
        >>> softmax(np.array([[0.0, 0.0, 1000.0]])).tolist()
        [[0.0, 0.0, 1.0]]
    """
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    found: Outputs = shifted / shifted.sum(-1, keepdims=True)
    return found


def sigmoid(logits: Outputs) -> Outputs:
    """Return the probability of each label.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    negative = np.exp(-np.abs(logits))
    found: Outputs = np.where(logits >= 0, 1, negative) / (1 + negative)
    return found
