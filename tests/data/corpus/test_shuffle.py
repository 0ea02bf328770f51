"""Orders of rows: each once, by the seed alone, whether they fit in memory or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.data.corpus import shuffle as order_module
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.data.corpus.shuffle import PooledOrder, order


@settings(max_examples=60)
@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**31))
def test_a_pooled_order_has_each_row_once(rows, segment, pool, epoch, seed):
    found = PooledOrder(seed, epoch, rows, segment=segment, pool=pool)
    everything = found[:].tolist()
    assert sorted(everything) == list(range(rows))
    again = PooledOrder(seed, epoch, rows, segment=segment, pool=pool)
    for place in range(rows - 1, -1, -7):  # from the end, and by one
        assert again[place] == everything[place]
    for start, stop in [(0, 0), (rows // 3, rows), (rows // 2, rows // 2 + 1), (0, segment * pool + 1)]:
        assert again[start:stop].tolist() == everything[start:stop]


def test_a_pool_comes_from_everywhere_and_is_bounded():
    found = PooledOrder(0, 0, 100_000, segment=10, pool=100)
    first = found[:1000]
    assert len({row // 10 for row in first.tolist()}) == 100  # so much is read for a thousand rows
    assert np.histogram(first, 10, (0, 100_000))[0].min() > 20
    assert np.abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.2
    assert not np.array_equal(first, PooledOrder(0, 1, 100_000, segment=10, pool=100)[:1000])


def test_few_rows_keep_the_uniform_order():
    assert np.array_equal(order(5, 2, 1000), np.random.default_rng([5, 0, 2]).permutation(1000))


def test_ranks_that_take_turns_see_one_order(monkeypatch):
    """Each rank opens the corpus itself and takes every so many-th batch."""
    monkeypatch.setattr(order_module, "UNIFORM", 50)
    tokens = np.arange(3000, dtype=np.uint16)

    def rows() -> PackedRows:
        masker = Masker(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=3000)
        return PackedRows(tokens, masker, 12, bos_id=0, eos_id=2, length=700, seed=3)

    def seen(ranks: int) -> list[list[int]]:
        opened = [rows() for _ in range(ranks)]
        assert isinstance(opened[0].order(0), PooledOrder)
        return [opened[index // 4 % ranks][index]["input_ids"].tolist() for index in range(700)]

    assert seen(1) == seen(2) == seen(7)
    assert rows().tokens_of(650) == 650 * 12
    assert sorted(rows().limited(60).places.tolist()) == sorted(set(order(3, 0, 300)[:60].tolist()))
