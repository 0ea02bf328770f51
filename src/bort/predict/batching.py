"""Which rows are computed together, and by how many threads: the cheapest way by what batches cost."""

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
    """A length that few others round up to: to a multiple of 4 up to 64 tokens, of 8 up to 128, of 16 beyond.

    What a row is padded to depends on the row alone, so its answer does not depend on its company.

    Args:
        length: Tokens of a row.
        longest: Most that the model takes.
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
    """Cut rows, sorted by length, into the batches that cost least together, by dynamic programming.

    The cheapest way to cut the first n rows ends with a batch of k, before which the first n - k are cut in the
    cheapest way. With a cost that grows with rows and length no order but that of length is cheaper.

    Args:
        lengths: Tokens of each row.
        cost: Of a batch, by its number of rows and its longest. *Shape:* (most rows + 1, longest + 1); what is longer
            costs as the longest does.
        max_tokens: Most tokens of a batch, padding counted: rows times the longest. A single row may have more.
        most: Most that a batch may cost. A single row may cost more.
        equal_lengths: Whether the rows of a batch must be exactly as long as each other.

    Returns:
        Indices into `lengths`, each exactly once, shortest rows first; rows of one length keep their order.

    Raises:
        ValueError: A bound is not above 0.
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
    """When the last of some batches is done, where each thread takes the dearest that is left.

    Args:
        costs: Of each batch.
        threads: At least 1.
    """
    free = [0.0] * threads
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


@dataclass(frozen=True)
class Group:
    """Rows that one graph computes.

    Args:
        graph: Which.
        places: Of the rows, in the whole.
        lengths: What each row is padded to at least.
        costs: Of the graph's batches.
        equal_lengths: Whether the rows of a batch must be equally long.
        max_tokens: Most tokens of a batch; 1 leaves every row alone.
    """

    graph: int
    places: Sequence[int]
    lengths: Sequence[int]
    costs: BatchCosts
    equal_lengths: bool
    max_tokens: int = MOST_TOKENS

    def batches(self, threads: int, most: float = math.inf) -> list[Batch]:
        """The cheapest, where so many threads compute each."""
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
        graph: What computes them.
        places: Of the rows, in the whole.
        length: What they are padded to.
        cost: By the graph's costs.
    """

    graph: int
    places: list[int]
    length: int
    cost: float


@dataclass(frozen=True)
class BatchPlan:
    """How rows are computed.

    Args:
        batches: In the order in which they are begun, the dearest first.
        shared: Whether all threads compute each batch together, one batch after the other, instead of each thread its
            own.
        cost: Until the last is done.
    """

    batches: list[Batch]
    shared: bool
    cost: float


def plan(groups: Sequence[Group], threads: int) -> BatchPlan:
    """The cheapest of three ways: all threads at each batch, or each thread at its own, in large batches or small ones.

    Args:
        groups: Rows by the graph that computes them.
        threads: At least 1.
    """
    if len(groups) == 1 and len(groups[0].places) == 1:  # nothing to choose, and soon done
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
