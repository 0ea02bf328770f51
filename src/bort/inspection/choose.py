"""Chooses texts to label next: those that a model is unsure of, unlike each other and unlike the labelled texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_UNSURE_SHARE = 0.5
"""Share of the texts to choose from: the least certain ones."""
_MOST_COSINES = 2**23
"""Held in memory at a time."""


def uncertainty(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """One minus the margin between the two most likely classes: 0 if a model is certain, 1 if they are equally likely.

    Args:
        probabilities: *Shape:* (texts, classes).

    Returns:
        *Shape:* (texts,).
    """
    ordered = np.sort(np.asarray(probabilities, np.float64), axis=1)
    unsure: NDArray[np.float64] = 1.0 - (ordered[:, -1] - ordered[:, -2])
    return unsure


def uncertainty_of_labels(probabilities: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """The uncertainty about the least certain label of each text, for multi-label data.

    After Brinker, "On Active Learning in Multi-label Classification", 2006: a text is worth as much as its most useful
    label.

    Args:
        probabilities: *Shape:* (texts, labels).
        thresholds: Probabilities above which a text has a label. With 1, a label is never given, whatever its
            probability, so that no text is uncertain for its sake. *Shape:* (labels,).

    Returns:
        1 where a probability is at its threshold, 0 where all are 0 or 1. *Shape:* (texts,).

    Example:
        >>> uncertainty_of_labels(np.array([[1.0, 0.25], [0.5, 0.0]]), np.array([0.5, 0.5]))
        array([0.5, 1. ])
    """
    p, least = np.asarray(probabilities, np.float64), np.asarray(thresholds, np.float64)
    room = np.where(p > least, 1.0 - least, np.maximum(least, 1e-12))
    unsure: NDArray[np.float64] = np.where(least < 1.0, 1.0 - np.abs(p - least) / room, 0.0).max(1)
    return unsure


def choose_texts(
    vectors: NDArray[Any], unsure: NDArray[Any], count: int, *, labelled: NDArray[Any] | None = None
) -> list[int]:
    """Choose texts to label, the most useful first.

    Among the less certain half, each step takes the text with the largest product of its uncertainty and its distance
    (1 - cosine) to the nearest labelled or chosen text. This is the farthest-first traversal of Sener and Savarese,
    "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018, weighted by margin sampling.

    Args:
        vectors: Vectors of the texts, of length 1. *Shape:* (texts, D).
        unsure: As returned by `uncertainty`. *Shape:* (texts,).
        count: Number of texts to choose; if there are fewer, all are returned in this order.
        labelled: Vectors of labelled texts, of length 1. *Shape:* (labelled texts, D).

    Returns:
        Indices of the chosen texts.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [-1.0, 0.0]])
        >>> choose_texts(vectors, np.array([0.9, 0.8, 0.8, 0.1]), 2)
        [0, 2]
    """
    count = min(count, len(vectors))
    kept = max(count, int(np.ceil(_UNSURE_SHARE * len(vectors))))
    if not count:
        return []
    candidates = np.flatnonzero(unsure >= np.sort(unsure)[-kept])  # including ties with the last of them
    x, weight = vectors[candidates], unsure[candidates].astype(np.float64)
    distance = np.full(len(x), 2.0)
    if labelled is not None and len(labelled):
        rows = max(1, _MOST_COSINES // len(labelled))
        nearest = [(x[start : start + rows] @ labelled.T).max(1) for start in range(0, len(x), rows)]
        distance = 1.0 - np.concatenate(nearest).astype(np.float64)
    chosen: list[int] = []
    free = np.ones(len(x), bool)
    for _ in range(count):
        # Once all distances are 0, uncertainty alone decides.
        gain = np.where(free, np.maximum(distance, 0.0) * weight + 1e-9 * weight, -1.0)
        best = int(gain.argmax())
        chosen.append(int(candidates[best]))
        free[best] = False
        distance = np.minimum(distance, 1.0 - (x @ x[best]).astype(np.float64))
    return chosen
