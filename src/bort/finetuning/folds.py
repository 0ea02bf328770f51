"""Folds of labelled examples: reproducible for a seed, stratified by class, with equal texts in the same fold."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.multilabel import rarest_labels

USUAL_FOLDS = 5
_BINS = 5


def assign_folds(
    targets: NDArray[Any], groups: Sequence[Hashable] | None = None, *, count: int = USUAL_FOLDS, seed: int = 0
) -> NDArray[np.int64]:
    """Assign each example to a fold.

    Folds are stratified by class, by the rarest of several labels, or by fifths of the sorted values. There are fewer
    than `count` folds if the largest class has fewer examples; if no class has two, folds are not stratified. A class
    with one example is missing from the training part of the fold that holds it out.

    Args:
        targets: As returned by `Task.targets`.
        groups: Group of each example, such as its text; a group is not split. By default each example is its own group.
        count: Largest number of folds.
        seed: Random seed.

    Returns:
        Fold numbers from 0. *Shape:* (examples,). At least two folds are not empty.

    Raises:
        ValueError: There are fewer than two examples.

    Example:
        >>> sorted(assign_folds(np.array([0, 0, 1, 1]), count=2).tolist())
        [0, 0, 1, 1]
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if len(targets) < 2:
        raise ValueError("folds need at least two examples")
    places: dict[Hashable, int] = {}
    group = np.array([places.setdefault(name, len(places)) for name in groups or range(len(targets))])
    if len(places) < 2:
        group = np.arange(len(targets))
    _, first = np.unique(group, return_index=True)
    strata = _strata(targets[first])
    largest = int(np.bincount(strata).max())
    splitter: Any = (
        KFold(min(count, len(first)), shuffle=True, random_state=seed)
        if largest < 2
        else StratifiedKFold(min(count, largest), shuffle=True, random_state=seed)
    )
    folds = np.zeros(len(first), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held_out) in enumerate(splitter.split(first, strata)):
            folds[held_out] = number
    of_each: NDArray[np.int64] = folds[group]
    return of_each


def _strata(targets: NDArray[Any]) -> NDArray[np.int64]:
    if targets.ndim == 2:
        return rarest_labels(targets)
    if np.issubdtype(targets.dtype, np.integer):
        return np.unique(targets, return_inverse=True)[1].astype(np.int64)
    ranks = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
    return np.asarray(ranks * min(_BINS, max(1, len(targets) // 2)) // len(targets), dtype=np.int64)
