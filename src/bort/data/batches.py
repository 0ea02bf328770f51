"""Batches of rows of similar length, so that little is computed on padding, and the stacking of rows into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def stacked(rows: Sequence[Sequence[int] | NDArray[Any]], fill: int, least: int = 0) -> NDArray[np.int64]:
    """Stack rows of ids, padded on the right with `fill` to the longest or to `least`. *Shape:* (rows, longest)."""
    out = np.full((len(rows), max([least, *map(len, rows)])), fill, np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def attention_mask(lengths: Sequence[int], least: int = 0) -> NDArray[np.int64]:
    """Return the mask of stacked rows: 1 for tokens, 0 for padding. *Shape:* (rows, longest or `least`)."""
    return (np.arange(max([least, *lengths])) < np.asarray(lengths)[:, None]).astype(np.int64)


def token_budget_batches(lengths: Sequence[int], *, max_tokens: int, max_rows: int) -> list[list[int]]:
    """Sort rows by length and cut them into batches of bounded size, for inference.

    Args:
        lengths: Tokens per row.
        max_tokens: Maximum tokens per batch, including padding: rows times the longest. A single row that is longer
            gets its own batch.
        max_rows: Maximum rows per batch.

    Returns:
        Indices into `lengths`, each exactly once, shortest rows first; rows of equal length keep their order.

    Raises:
        ValueError: A bound is below 1.
    """
    _check_positive(max_tokens=max_tokens, max_rows=max_rows)
    batches: list[list[int]] = []
    batch: list[int] = []
    for index in np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        # The last row of a batch is its longest.
        if batch and ((len(batch) + 1) * lengths[index] > max_tokens or len(batch) == max_rows):
            batches.append(batch)
            batch = []
        batch.append(index)
    return [*batches, batch] if batch else batches


def shuffled_length_batches(
    lengths: Sequence[int], *, rows: int, seed: int, epoch: int, pool: int = 50
) -> list[list[int]]:
    """Cut rows into batches of similar length in random order, for training.

    The rows are shuffled, split into pools of `pool * rows`, sorted by length within each pool, and cut; then the
    batches are shuffled. The remaining `len(lengths) % rows` rows, a random sample, come last.

    Args:
        lengths: Tokens per row.
        rows: Rows per batch; only the last batch of the epoch may have fewer.
        seed: Random seed of the run; at least 0.
        epoch: Number of the epoch, at least 0; each has its own order.
        pool: Batches that are sorted together; more means less padding and less randomness.

    Returns:
        Indices into `lengths`, each exactly once; the same for the same arguments.

    Raises:
        ValueError: A bound is below 1.
    """
    _check_positive(rows=rows, pool=pool)
    rng = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(len(sizes))
    full = len(sizes) - len(sizes) % rows

    def batches_of(indices: np.ndarray) -> list[list[int]]:
        by_length = indices[np.argsort(sizes[indices], kind="stable")].tolist()
        return [by_length[start : start + rows] for start in range(0, len(by_length), rows)]

    batches: list[list[int]] = []
    for start in range(0, full, pool * rows):
        batches += batches_of(order[start : min(start + pool * rows, full)])
    return [batches[position] for position in rng.permutation(len(batches))] + batches_of(order[full:])


def _check_positive(**bounds: int) -> None:
    for name, value in bounds.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
