"""The bootstrap: metrics of resamples, many at once.

A resample draws as many rows as there are, with replacement. That is to draw how often each row, or each cell of the
confusion matrix, occurs: so a resample is a vector of counts, and a thousand of them one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Samples = dict[str, Floats]

# Counts of a chunk of resamples: a few such arrays stay in the processor's cache.
_CHUNK_ELEMENTS = 250_000


def resampled_classes(truth: Ints, guess: Ints, num_labels: int, *, seed: int, resamples: int) -> Samples:
    """Compute accuracy, F1 and Matthews' correlation of resamples, drawn as cells of the confusion matrix.

    Args:
        truth: Right classes. *Shape:* (rows).
        guess: Predicted classes. *Shape:* (rows).
        num_labels: How many classes there are.
        seed: Seed of the draws.
        resamples: How many to draw.

    Returns:
        `accuracy`, `f1`, `matthews`, and with two labels `f1_positive`, each of *shape* (resamples); empty without any.
    """
    return _join(_class_chunks(truth, guess, num_labels, seed, resamples))


def _class_chunks(truth: Ints, guess: Ints, num_labels: int, seed: int, resamples: int) -> Iterator[Samples]:
    cells, counts = np.unique(truth * num_labels + guess, return_counts=True)
    down, across = np.divmod(cells, num_labels)
    rows = len(truth)
    rng = np.random.default_rng(seed)
    for size in _chunk_sizes(resamples, max(len(cells), num_labels)):
        draws = rng.multinomial(rows, counts / rows, size=size)  # (size, cells)
        truths, guesses = _sum_by(draws, down, num_labels), _sum_by(draws, across, num_labels)  # (size, labels)
        hits = _sum_by(draws * (down == across), down, num_labels)
        occurring = truths + guesses
        f1 = _ratio(2 * hits, occurring)
        right = hits.sum(axis=1)
        truths_spread, guesses_spread = (rows**2 - np.square(each).sum(axis=1) for each in (truths, guesses))
        spread = np.sqrt(truths_spread.astype(np.float64) * guesses_spread)
        agreement = right * rows - (truths * guesses).sum(axis=1)
        samples = {
            "accuracy": right / rows,
            "f1": f1.sum(axis=1) / (occurring > 0).sum(axis=1),
            "matthews": np.clip(_ratio(agreement, spread), -1.0, 1.0),
        }
        yield samples | ({"f1_positive": f1[:, 1]} if num_labels == 2 else {})


def resampled_numbers(truth: Floats, guess: Floats, squares: Floats, *, seed: int, resamples: int) -> Samples:
    """Compute both correlations and the root mean squared error of resamples.

    Args:
        truth: Right numbers, of a size whose squares do not overflow. *Shape:* (rows).
        guess: Predicted numbers, likewise. *Shape:* (rows).
        squares: Squared errors. *Shape:* (rows).
        seed: Seed of the draws.
        resamples: How many to draw.

    Returns:
        `pearson`, `spearman` and `rmse`, each of *shape* (resamples); empty without any.
    """
    return _join(_number_chunks(truth, guess, squares, seed, resamples))


def _number_chunks(truth: Floats, guess: Floats, squares: Floats, seed: int, resamples: int) -> Iterator[Samples]:
    rows = len(truth)
    # In order of the truth, ranking walks through memory in sequence on one side at least.
    order = np.argsort(truth)
    truth, guess, squares = truth[order], guess[order], squares[order]
    rng = np.random.default_rng(seed)
    for size in _chunk_sizes(resamples, rows):
        drawn = rng.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        truth_ranks, guess_ranks = (_ranks(values, counts) - (rows + 1) / 2 for values in (truth, guess))
        truth_off, guess_off = (values - (counts @ values / rows)[:, None] for values in (truth, guess))
        # Ranks are exact: they tell a constant resample, where the rounding of a mean would leave some variance.
        rank_spread = _spread(truth_ranks, counts) * _spread(guess_ranks, counts)
        spread = np.where(rank_spread > 0, _spread(truth_off, counts) * _spread(guess_off, counts), 0.0)
        yield {
            "pearson": np.clip(_ratio(_dot(truth_off, guess_off, counts), spread), -1.0, 1.0),
            "spearman": np.clip(_ratio(_dot(truth_ranks, guess_ranks, counts), rank_spread), -1.0, 1.0),
            "rmse": np.sqrt(counts @ squares / rows),
        }


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Rank the values of each resample from 1, ties by their mean, as Spearman's correlation wants.

    Args:
        values: *Shape:* (rows).
        counts: How often each row occurs. *Shape:* (size, rows).

    Returns:
        *Shape:* (size, rows); meaningless where the count is 0.
    """
    distinct, group = np.unique(values, return_inverse=True)
    ties = _sum_by(counts, group, len(distinct))
    ranks: Floats = np.take(np.cumsum(ties, axis=1) - (ties - 1) / 2, group, axis=1)
    return ranks


def _dot(left: Floats, right: Floats, counts: Floats) -> Floats:
    """Sum the products of two (size, rows) under counts (size, rows): (size)."""
    sums: Floats = np.einsum("ij,ij,ij->i", left, right, counts)
    return sums


def _spread(values: Floats, counts: Floats) -> Floats:
    return np.sqrt(_dot(values, values, counts))


def _sum_by(draws: NDArray[Any], keys: Ints, num_keys: int) -> NDArray[Any]:
    """Add the columns of (size, cells) that share a key of 0 to `num_keys - 1`: (size, num_keys)."""
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    sums = np.zeros((len(draws), num_keys), dtype=draws.dtype)
    sums[:, present] = np.add.reduceat(np.take(draws, order, axis=1), starts, axis=1)
    return sums


def _ratio(upper: NDArray[Any], lower: NDArray[Any]) -> Floats:
    """Divide, with 0 where the divisor is 0."""
    quotient: Floats = np.divide(upper, lower, out=np.zeros(np.shape(upper)), where=lower > 0)
    return quotient


def _chunk_sizes(resamples: int, width: int) -> Iterator[int]:
    step = max(1, _CHUNK_ELEMENTS // width)
    return (min(step, resamples - start) for start in range(0, resamples, step))


def _join(chunks: Iterator[Samples]) -> Samples:
    parts = list(chunks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
