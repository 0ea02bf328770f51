"""Metrics of predictions: those of GLUE, each with a bootstrap confidence interval.

Each metric is one formula over how often each row, or each cell of the confusion matrix, occurs. The true counts give
its value, random counts its resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.labels import Kind
from bort.errors import BortError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Samples = dict[str, Floats]
_CONFIDENCE = 0.95
# Counts in a chunk of resamples: a few such arrays fit in the CPU cache.
_CHUNK_ELEMENTS = 250_000

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "f1_positive", "matthews"),
    "regression": ("pearson", "spearman"),
    "multilabel": ("f1_micro", "f1_macro", "exact_match", "mean_average_precision"),
}
"""The metrics that may select models, by kind."""
OF_SUITES = "f1_positive"
"""The metric by which only tasks of a suite select."""


@dataclass(frozen=True)
class Score:
    """A metric with its percentile bootstrap interval.

    Attributes:
        value: The metric on all rows.
        low: Lower end of the interval.
        high: Upper end. The interval is widened to include `value` if the bootstrap's bias would leave it outside; its
            width is 0 if all resamples agree, as with an accuracy of 1.
    """

    value: float
    low: float
    high: float


def scores_of(metrics: Mapping[str, Any], part: str) -> dict[str, Score]:
    """The scores of a part with their intervals.

    Args:
        metrics: Contents of `metrics.json`.
        part: `dev` or `test`.
    """
    return {name: Score(value, *metrics[f"{part}_confidence"][name]) for name, value in metrics[part].items()}


def primary_metric(kind: Kind, override: str | None = None) -> str:
    """Name the metric by which models of a kind are compared: accuracy, Pearson's correlation, or micro F1.

    Args:
        kind: The kind of task.
        override: The user's choice, if any.

    Raises:
        BortError: The kind has no such metric.
    """
    if override is None:
        return METRICS[kind][0]
    if override not in METRICS[kind]:
        named = ", ".join(name for name in METRICS[kind] if name != OF_SUITES)
        raise BortError(f"the metric of a {kind} task must be one of {named}", value=override)
    return override


def confusion(references: Sequence[int], predictions: Sequence[int], num_labels: int) -> Ints:
    """Count the rows of each pair of labels.

    Returns:
        *Shape:* (num_labels, num_labels): references down, predictions across.

    Raises:
        ValueError: The two differ in length, are empty, or hold a label outside of 0 to `num_labels - 1`.
    """
    truth, guess = _labels(references, num_labels), _labels(predictions, num_labels)
    _check_equally_many(truth, guess)
    return np.bincount(truth * num_labels + guess, minlength=num_labels**2).reshape(num_labels, num_labels)


def classification_scores(
    references: Sequence[int], predictions: Sequence[int], *, num_labels: int, resamples: int = 1000
) -> dict[str, Score]:
    """Score predicted classes.

    `f1` is the mean over the classes that occur in the references or the predictions (macro); with two labels
    `f1_positive` is that of class 1 alone, 0 where it occurs in neither. `matthews` is 0 where the references or the
    predictions are constant. The same holds in each resample.

    Args:
        references: The right class of each row.
        predictions: The predicted class of each row.
        num_labels: How many classes the task has.
        resamples: Resamples of the bootstrap; with 0 the interval is the value alone.

    Returns:
        `accuracy`, `f1`, `matthews`, and with two labels `f1_positive`; each from 0 to 1, `matthews` from -1.

    Raises:
        ValueError: As for `confusion`.
    """
    truth, guess = _labels(references, num_labels), _labels(predictions, num_labels)
    _check_equally_many(truth, guess)
    cells, counts = np.unique(truth * num_labels + guess, return_counts=True)
    values = _class_metrics(cells, counts[None], num_labels)
    return scores_of_samples(values, resampled_classes(truth, guess, num_labels, seed=0, resamples=resamples))


def regression_scores(
    references: Sequence[float], predictions: Sequence[float], *, resamples: int = 1000
) -> dict[str, Score]:
    """Score predicted numbers.

    The correlations are 0 where the references or the predictions are constant, in all rows or in a resample.

    Args:
        references: The right number of each row, within single precision.
        predictions: The predicted number of each row, likewise.
        resamples: Resamples of the bootstrap; with 0 the interval is the value alone.

    Returns:
        `pearson` and `spearman`, from -1 to 1, and `rmse` in the unit of the labels.

    Raises:
        BortError: A number is not finite, as after a diverged training.
        ValueError: The two differ in length or are empty.
    """
    truth, guess = _numbers("references", references), _numbers("predictions", predictions)
    _check_equally_many(truth, guess)
    values = _number_metrics(truth, guess, np.ones((1, len(truth))))
    return scores_of_samples(values, resampled_numbers(truth, guess, seed=0, resamples=resamples))


def mean_score(values: Sequence[float], *, resamples: int = 1000) -> Score:
    """Score by the mean of one value per row.

    Args:
        values: The values.
        resamples: Resamples of the bootstrap; with 0 the interval is the value alone.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)

    def mean(drawn: NDArray[Any]) -> Samples:
        return {"mean": drawn @ distinct / len(values)}

    return scores_of_samples(mean(counts[None]), _resampled(counts, mean, 0, resamples))["mean"]


def resampled_classes(truth: Ints, guess: Ints, num_labels: int, *, seed: int, resamples: int) -> Samples:
    """Compute the metrics of classes for resamples of the rows, drawn as cells of the confusion matrix.

    Args:
        truth: Right classes. *Shape:* (rows).
        guess: Predicted classes. *Shape:* (rows).
        num_labels: How many classes there are.
        seed: Seed of the draws.
        resamples: How many to draw.

    Returns:
        Each metric by name. *Shape:* (resamples); empty without any.
    """
    cells, counts = np.unique(truth * num_labels + guess, return_counts=True)
    return _resampled(counts, lambda drawn: _class_metrics(cells, drawn, num_labels), seed, resamples, num_labels)


def resampled_numbers(truth: Floats, guess: Floats, *, seed: int, resamples: int) -> Samples:
    """Compute the metrics of numbers for resamples of the rows.

    Args:
        truth: Right numbers. *Shape:* (rows).
        guess: Predicted numbers. *Shape:* (rows).
        seed: Seed of the draws.
        resamples: How many to draw.

    Returns:
        Each metric by name. *Shape:* (resamples); empty without any.
    """
    # Sorted by the truth, so that ranking accesses memory sequentially on at least one side.
    order = np.argsort(truth)
    drawn = resampled_rows(len(truth), seed=seed, resamples=resamples)
    return joined([_number_metrics(truth[order], guess[order], counts) for counts in drawn])


def resampled_rows(rows: int, *, seed: int, resamples: int) -> Iterator[Floats]:
    """Count how often each row occurs in resamples of the rows, in chunks. *Shape:* (size, rows) each."""
    rng = np.random.default_rng(seed)
    for size in _chunk_sizes(resamples, rows):
        drawn = rng.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _class_metrics(cells: Ints, counts: Ints, num_labels: int) -> Samples:
    """Compute each metric of classes.

    Args:
        cells: The cells that occur, as truth times `num_labels` plus prediction. *Shape:* (cells).
        counts: How often each occurs in each resample. *Shape:* (size, cells).
        num_labels: How many classes there are.

    Returns:
        Each metric by name. *Shape:* (size).
    """
    down, across = np.divmod(cells, num_labels)
    rows = int(counts[0].sum())
    truths, guesses = _sum_by(counts, down, num_labels), _sum_by(counts, across, num_labels)  # (size, labels)
    hits = _sum_by(counts * (down == across), down, num_labels)
    occurring = truths + guesses
    f1 = ratio(2 * hits, occurring)
    right = hits.sum(axis=1)
    truths_spread, guesses_spread = (rows**2 - np.square(each).sum(axis=1) for each in (truths, guesses))
    spread = np.sqrt(truths_spread.astype(np.float64) * guesses_spread)
    agreement = right * rows - (truths * guesses).sum(axis=1)
    metrics = {
        "accuracy": right / rows,
        "f1": f1.sum(axis=1) / (occurring > 0).sum(axis=1),
        "matthews": np.clip(ratio(agreement, spread), -1.0, 1.0),
    }
    return metrics | ({"f1_positive": f1[:, 1]} if num_labels == 2 else {})


def _number_metrics(truth: Floats, guess: Floats, counts: Floats) -> Samples:
    """Compute each metric of numbers.

    Args:
        truth: Right numbers. *Shape:* (rows).
        guess: Predicted numbers. *Shape:* (rows).
        counts: How often each row occurs in each resample. *Shape:* (size, rows).

    Returns:
        Each metric by name. *Shape:* (size).
    """
    rows = len(truth)
    truth_ranks, guess_ranks = (_ranks(values, counts) - (rows + 1) / 2 for values in (truth, guess))
    truth_off, guess_off = (values - (counts @ values / rows)[:, None] for values in (truth, guess))
    # Ranks are exact, so they reveal a constant resample, where the rounding of a mean would leave some variance.
    rank_spread = _spread(truth_ranks, guess_ranks, counts)
    spread = np.where(rank_spread > 0, _spread(truth_off, guess_off, counts), 0.0)
    return {
        "pearson": np.clip(ratio(_dot(truth_off, guess_off, counts), spread), -1.0, 1.0),
        "spearman": np.clip(ratio(_dot(truth_ranks, guess_ranks, counts), rank_spread), -1.0, 1.0),
        "rmse": np.sqrt(counts @ np.square(truth - guess) / rows),
    }


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Rank the values of each resample from 1, with the mean rank for ties, as Spearman's correlation requires.

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


def _spread(left: Floats, right: Floats, counts: Floats) -> Floats:
    """Compute the square root of the product of both sums of squares."""
    return np.sqrt(_dot(left, left, counts) * _dot(right, right, counts))


def _sum_by(draws: NDArray[Any], keys: Ints, num_keys: int) -> NDArray[Any]:
    """Add the columns of (size, cells) that share a key of 0 to `num_keys - 1`: (size, num_keys)."""
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    sums = np.zeros((len(draws), num_keys), dtype=draws.dtype)
    sums[:, present] = np.add.reduceat(np.take(draws, order, axis=1), starts, axis=1)
    return sums


def ratio(upper: Any, lower: Any) -> Floats:
    """Divide, with 0 where the divisor is 0.

    Args:
        upper: The dividend.
        lower: The divisor, at least 0. *Shape:* that of the dividend.

    Example:
        >>> ratio([1.0, 2.0], [4.0, 0.0])
        array([0.25, 0.  ])
    """
    quotient: Floats = np.divide(upper, lower, out=np.zeros(np.shape(upper)), where=np.asarray(lower) > 0)
    return quotient


def _resampled(counts: Ints, metrics: Callable[[Ints], Samples], seed: int, resamples: int, width: int = 1) -> Samples:
    """Resample counts, chunk by chunk, and compute their metrics."""
    rng, rows = np.random.default_rng(seed), counts.sum()
    sizes = _chunk_sizes(resamples, max(len(counts), width))
    return joined([metrics(rng.multinomial(rows, counts / rows, size=size)) for size in sizes])


def _chunk_sizes(resamples: int, width: int) -> Iterator[int]:
    step = max(1, _CHUNK_ELEMENTS // width)
    return (min(step, resamples - start) for start in range(0, resamples, step))


def joined(parts: Sequence[Samples]) -> Samples:
    """Concatenate the samples of several chunks."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def scores_of_samples(values: Samples, samples: Samples) -> dict[str, Score]:
    """Values with their percentile intervals, which hold 95 % of the resamples.

    Args:
        values: Each metric on all rows. *Shape:* (1,).
        samples: The same on resamples; empty without any.
    """
    scores = {}
    for name, (value,) in values.items():
        low, high = value, value
        if name in samples:
            low, high = np.quantile(samples[name], [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        scores[name] = Score(float(value), float(min(low, value)), float(max(high, value)))
    return scores


def _labels(labels: Sequence[int], num_labels: int) -> Ints:
    codes = np.asarray(labels)
    if codes.ndim != 1 or not codes.size or codes.dtype.kind not in "iub":
        raise ValueError("labels must be a sequence of integers that is not empty")
    if codes.min() < 0 or codes.max() >= num_labels:
        raise ValueError(f"labels must be from 0 to {num_labels - 1}, not {codes.min()} to {codes.max()}")
    return codes.astype(np.int64)


def _numbers(name: str, values: Sequence[float]) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"{name} must be a sequence of numbers that is not empty")
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        rule = f"{name} must be finite numbers; that of example {wrong[0] + 1} is not (a diverged training?)"
        raise BortError(rule, value=float(numbers[wrong[0]]))
    return numbers


def _check_equally_many(truth: NDArray[Any], guess: NDArray[Any]) -> None:
    if len(truth) != len(guess):
        raise ValueError(f"references and predictions must be equally many, not {len(truth)} and {len(guess)}")
