"""Plan which rows are computed together, and with how many threads, at the lowest total cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.predict.costs import MOST_TOKENS, BatchCosts

_FINE_STEPS = ((64, 4), (128, 8))
_COARSE_STEP = 16
_BATCHES_PER_THREAD = 3


def rounded_up(length: int, longest: int) -> int:
    """Round a length up: to a multiple of 4 up to 64 tokens, of 8 up to 128, of 16 beyond.

    The padded length depends on the row alone, so its answer does not depend on the rest of the batch.

    Args:
        length: Tokens of a row.
        longest: Maximum length of the model.
    """
    step = next((step for most, step in _FINE_STEPS if length <= most), _COARSE_STEP)
    return max(length, min(longest, -(-length // step) * step))


def cheapest_batches(
    lengths: Sequence[int],
    cost: NDArray[np.float64],
    *,
    max_tokens: int = MOST_TOKENS,
    most: float = math.inf,
    equal_lengths: bool = False,
) -> list[list[int]]:
    """Split rows, sorted by length, into the batches of lowest total cost, by dynamic programming.

    An optimal split of the first n rows ends with a batch of k rows, after an optimal split of the first n - k. If
    the cost grows with rows and length, no other order than by length is cheaper.

    Args:
        lengths: Tokens of each row.
        cost: Cost of a batch by its number of rows and its longest row. *Shape:* (most rows + 1, longest + 1); longer
            rows cost the same as the longest.
        max_tokens: Most tokens of a batch with padding: rows times the longest. A single row may have more.
        most: Maximum cost of a batch. A single row may cost more.
        equal_lengths: Whether all rows of a batch must have the same length.

    Returns:
        Indices into `lengths`, each exactly once, shortest rows first; rows of equal length keep their order.

    Raises:
        ValueError: A bound is not positive.
    """
    if max_tokens < 1 or not most > 0 or len(cost) < 2:
        raise ValueError(f"bounds must be above 0, not {max_tokens} tokens, a cost of {most}, {len(cost) - 1} rows")
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    ordered = np.asarray(lengths, np.int64)[order]
    first = np.searchsorted(ordered, ordered) if equal_lengths else np.zeros(len(ordered), np.int64)
    best, taken = np.zeros(len(ordered) + 1), [0] * (len(ordered) + 1)
    column: NDArray[np.float64] = cost[:, 0]
    length, rows = -1, 1
    for end in range(1, len(ordered) + 1):
        if ordered[end - 1] != length:
            length = int(ordered[end - 1])
            column = cost[:, min(length, cost.shape[1] - 1)]
            rows = max(1, min(len(column) - 1, max_tokens // max(1, length)))
            if most < math.inf:
                dear = np.flatnonzero(column[2 : rows + 1] > most)
                rows = int(dear[0]) + 1 if len(dear) else rows
        count = min(rows, end - int(first[end - 1]))
        candidates = best[end - count : end][::-1] + column[1 : count + 1]
        size = int(candidates.argmin())
        best[end], taken[end] = candidates[size], size + 1
    batches, end, places = [], len(ordered), order.tolist()
    while end:
        batches.append(places[end - taken[end] : end])
        end -= taken[end]
    return batches[::-1]


def makespan(costs: Sequence[float], threads: int) -> float:
    """Time until the last batch is done, if each free thread takes the most expensive batch left.

    Args:
        costs: Cost of each batch.
        threads: Number of threads, at least 1.
    """
    free = [0.0] * threads
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


@dataclass(frozen=True)
class Group:
    """The rows that one graph computes.

    Args:
        graph: Index of the graph.
        places: Indices of the rows in the whole input.
        lengths: Minimum padded length of each row.
        costs: Costs of the graph's batches.
        equal_lengths: Whether all rows of a batch must have the same length.
        max_tokens: Most tokens of a batch; 1 puts each row into a batch of its own.
    """

    graph: int
    places: Sequence[int]
    lengths: Sequence[int]
    costs: BatchCosts
    equal_lengths: bool
    max_tokens: int = MOST_TOKENS

    def batches(self, threads: int, most: float = math.inf) -> list[Batch]:
        """The cheapest batches, if `threads` threads compute each one together."""
        cost = self.costs.table(threads)
        longest = cost.shape[1] - 1
        cut = cheapest_batches(
            self.lengths, cost, max_tokens=self.max_tokens, most=most, equal_lengths=self.equal_lengths
        )
        found = []
        for rows in cut:
            length = max(self.lengths[row] for row in rows)
            price = float(cost[len(rows), min(length, longest)])
            found.append(Batch(self.graph, [self.places[row] for row in rows], length, price))
        return found


@dataclass(frozen=True)
class Batch:
    """Rows that are computed together.

    Args:
        graph: Index of the graph that computes them.
        places: Indices of the rows in the whole input.
        length: Padded length.
        cost: Estimated cost.
    """

    graph: int
    places: list[int]
    length: int
    cost: float


@dataclass(frozen=True)
class BatchPlan:
    """How rows are computed.

    Args:
        batches: In the order in which they start, the most expensive first.
        shared: Whether all threads compute one batch at a time together, instead of each thread its own batches.
        cost: Estimated cost until the last batch is done.
    """

    batches: list[Batch]
    shared: bool
    cost: float


def plan(groups: Sequence[Group], threads: int) -> BatchPlan:
    """The cheapest of three plans: all threads share each batch, or each computes its own batches, large or small.

    Args:
        groups: Rows by the graph that computes them.
        threads: Number of threads, at least 1.
    """
    if len(groups) == 1 and len(groups[0].places) == 1:  # nothing to choose
        [group] = groups
        return BatchPlan([Batch(group.graph, [*group.places], group.lengths[0], 0.0)], shared=True, cost=0.0)
    together = [batch for group in groups for batch in group.batches(threads)]
    plans = [_dearest_first(together, shared=True, cost=sum(batch.cost for batch in together))]
    if threads > 1 and groups:
        alone = [batch for group in groups for batch in group.batches(1)]
        fair = sum(batch.cost for batch in alone) / (_BATCHES_PER_THREAD * threads)
        for batches in (alone, [batch for group in groups for batch in group.batches(1, most=fair)]):
            plans.append(_dearest_first(batches, shared=False, cost=makespan([b.cost for b in batches], threads)))
    return min(plans, key=lambda found: found.cost)


def _dearest_first(batches: list[Batch], *, shared: bool, cost: float) -> BatchPlan:
    return BatchPlan(sorted(batches, key=lambda batch: -batch.cost), shared, cost)
