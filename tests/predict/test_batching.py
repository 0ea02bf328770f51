from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.predict.batching import Group, cheapest_batches, makespan, plan, rounded_up
from bort.predict.costs import MOST_ROWS, BatchCosts, usual_costs

LONGEST = 40


def costs_of(fixed: float, row: float, token: float, square: float) -> np.ndarray:
    rows, lengths = np.arange(9)[:, None], np.arange(LONGEST + 1)[None]
    return fixed + row * rows + token * rows * lengths + square * rows * lengths**2


growing = st.builds(costs_of, *(st.floats(0.01, 20),) * 2, st.floats(0, 2), st.floats(0, 0.1))
lengths_of = st.lists(st.integers(1, LONGEST), max_size=60)


def every_cut(order: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to cut a sequence into pieces."""
    for bars in itertools.product([False, True], repeat=max(0, len(order) - 1)):
        ends = [place + 1 for place, bar in enumerate(bars) if bar] + [len(order)]
        yield [list(order[start:end]) for start, end in zip([0, *ends], ends, strict=False) if end > start]


def every_partition(rows: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put rows together, in whatever order."""
    if not rows:
        yield []
        return
    first, *rest = rows
    for size in range(len(rest) + 1):
        for company in itertools.combinations(rest, size):
            for others in every_partition([row for row in rest if row not in company]):
                yield [[first, *company], *others]


def price(batches: Sequence[Sequence[int]], lengths: Sequence[int], cost: np.ndarray) -> float:
    return sum(float(cost[len(batch), max(lengths[row] for row in batch)]) for batch in batches)


@given(st.lists(st.integers(1, LONGEST), max_size=6), growing)
def test_no_partition_is_cheaper(lengths, cost):
    found = cheapest_batches(lengths, cost)
    least = min(price(batches, lengths, cost) for batches in every_partition(list(range(len(lengths)))))
    assert price(found, lengths, cost) == pytest.approx(least)


@given(
    st.lists(st.integers(1, LONGEST), min_size=1, max_size=8),
    growing,
    st.integers(1, 150),
    st.one_of(st.just(math.inf), st.floats(0.5, 200)),
    st.booleans(),
)
def test_no_cut_within_the_bounds_is_cheaper(lengths, cost, max_tokens, most, equal):
    def allowed(batch: list[int]) -> bool:
        longest = max(lengths[row] for row in batch)
        if len(batch) == 1:
            return True
        fits = len(batch) * longest <= max_tokens and cost[len(batch), longest] <= most
        return fits and (not equal or len({lengths[row] for row in batch}) == 1)

    found = cheapest_batches(lengths, cost, max_tokens=max_tokens, most=most, equal_lengths=equal)
    assert all(map(allowed, found))
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    least = min(price(cut, lengths, cost) for cut in every_cut(order) if all(map(allowed, cut)))
    assert price(found, lengths, cost) == pytest.approx(least)


@given(lengths_of, growing, st.integers(1, 400), st.booleans())
def test_every_row_once_and_in_order(lengths, cost, max_tokens, equal):
    found = cheapest_batches(lengths, cost, max_tokens=max_tokens, equal_lengths=equal)
    flat = [row for batch in found for row in batch]
    assert flat == sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    assert all(1 <= len(batch) < len(cost) for batch in found)


def test_by_hand():
    # A batch costs 10 and its padded tokens: 4, 5 and 20 together 70, the short ones together 20 and the long one 30.
    rows, lengths = np.arange(9)[:, None], np.arange(LONGEST + 1)[None]
    cost = 10.0 + rows * lengths
    assert cheapest_batches([20, 4, 5], cost) == [[1, 2], [0]]
    assert cheapest_batches([20, 4, 5], cost, max_tokens=9) == [[1], [2], [0]]
    assert cheapest_batches([20, 18, 19], cost) == [[1, 2, 0]]
    assert cheapest_batches([], cost) == []
    assert cheapest_batches([90, 90], cost) == [[0, 1]], "what is longer than was measured costs as the longest"


@pytest.mark.parametrize("bounds", [{"max_tokens": 0}, {"most": 0.0}, {"most": math.nan}])
def test_bounds_are_positive(bounds):
    with pytest.raises(ValueError, match="bounds must be above 0"):
        cheapest_batches([1], np.ones((3, 3)), **bounds)


@given(st.lists(st.floats(0.1, 100), max_size=20), st.integers(1, 8))
def test_makespan_lies_between_its_bounds(costs, threads):
    found = makespan(costs, threads)
    least = max([sum(costs) / threads, *costs]) if costs else 0
    assert least - 1e-9 <= found <= sum(costs) / threads + max(costs, default=0) + 1e-9


@given(st.integers(1, 600), st.integers(1, 600))
def test_rounded_lengths(length, longest):
    found = rounded_up(length, longest)
    assert length <= found <= max(length, longest)
    assert found - length < 16
    assert rounded_up(found, longest) == found
    assert rounded_up(length + 1, longest) >= found


@given(lengths_of, st.integers(1, 33), st.booleans())
def test_a_plan_has_every_row_once(lengths, threads, equal):
    half = len(lengths) // 2
    places = [range(half), range(half, len(lengths))]
    groups = [
        Group(graph, rows, [lengths[row] for row in rows], usual_costs(LONGEST), equal_lengths=equal)
        for graph, rows in enumerate(places)
    ]
    found = plan([group for group in groups if group.places], threads)
    assert sorted(place for batch in found.batches for place in batch.places) == list(range(len(lengths)))
    assert all(batch.graph == int(batch.places[0] >= half) for batch in found.batches)
    assert all(batch.length >= lengths[place] for batch in found.batches for place in batch.places)
    prices = [batch.cost for batch in found.batches]
    assert prices == sorted(prices, reverse=True)
    assert found.shared or threads > 1


def test_many_texts_keep_many_threads_busy():
    """Each at batches of its own, where all at one would wait for each other, and none waits for a last large one."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(3.2, 0.6, 512)), 4, 128).astype(int).tolist()
    costs = usual_costs(128)
    alone = plan([Group(0, range(512), lengths, costs, equal_lengths=False)], 1).cost
    for threads in (2, 4, 8, 16, 32):
        found = plan([Group(0, range(512), lengths, costs, equal_lengths=False)], threads)
        assert not found.shared
        assert alone / found.cost > 0.75 * threads


def test_costs_between_the_points():
    measured = BatchCosts((1, 4), (8, 16), 2, ((1.0, 2.0), (4.0, 8.0)), ((0.5, 2.0), (2.0, 8.0)))
    table = measured.table()
    assert table.shape == (MOST_ROWS + 1, 17)
    assert [table[1, 8], table[4, 16], table[1, 12], table[2, 8]] == pytest.approx([1, 8, 1.5, 2])
    assert table[8, 16] == pytest.approx(16), "twice the most rows that were measured"
    assert table[1, 1] == table[1, 8]
    two = measured.table(2)
    assert [two[1, 8], two[1, 16]] == pytest.approx([0.5, 2.0])
    assert measured.table(4)[1, 8] == pytest.approx(0.25), "all of it was shared"
    assert measured.table(4)[1, 16] == pytest.approx(2.0), "nothing of it was"


def test_costs_are_read_as_they_were_written():
    import dataclasses
    import json

    costs = usual_costs(100)
    described = json.loads(json.dumps(dataclasses.asdict(costs)))
    assert BatchCosts.of(described) == costs
    for name, value in (("rows", [2, 1]), ("lengths", []), ("threads", 0), ("alone", [[1.0]]), ("shared", [["x"]])):
        assert BatchCosts.of(described | {name: value}) is None
    assert BatchCosts.of(described | {"more": 1}) is None
    assert BatchCosts.of([]) is None


def test_the_usual_costs_of_long_inputs_take_no_more_memory():
    costs = usual_costs(2**16)
    assert costs.lengths[-1] == 8192
    assert costs == usual_costs(8192)
    found = plan([Group(0, range(2), [2**16, 9000], costs, equal_lengths=False)], 2)
    assert sorted(batch.length for batch in found.batches) == [9000, 2**16]
