"""Rows of a corpus: every token once an epoch, in an order that the seed alone decides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.config import IGNORED

MASKER = Masker(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60_000)


def packed(tokens: int, sequence_length: int = 10, *, length: int = 2000, seed: int = 0) -> PackedRows:
    ids = np.arange(5, 5 + tokens).astype(np.uint16)
    return PackedRows(ids, MASKER, sequence_length, bos_id=0, eos_id=2, length=length, seed=seed)


def unmasked(row) -> np.ndarray:
    return np.where(row["labels"] == IGNORED, row["input_ids"], row["labels"])


@settings(max_examples=50)
@given(st.integers(0, 300), st.integers(3, 20), st.integers(0, 3), st.integers(0, 2**31))
def test_an_epoch_is_a_permutation_of_the_corpus(tokens, sequence_length, epoch, seed):
    width = sequence_length - 2
    if tokens < width:
        with pytest.raises(BortError, match=f"too little text for one row of {sequence_length} tokens"):
            packed(tokens, sequence_length, seed=seed)
        return
    rows = packed(tokens, sequence_length, seed=seed)
    count = rows.rows_per_epoch
    assert count == tokens // width
    epoch_rows = [unmasked(rows[index]) for index in range(epoch * count, (epoch + 1) * count)]
    for row in epoch_rows:
        assert (row.dtype, row.shape, row[0], row[-1]) == (np.int64, (sequence_length,), 0, 2)
    seen = np.concatenate([row[1:-1] for row in sorted(epoch_rows, key=lambda row: row[1])])
    assert seen.tolist() == rows.tokens[: count * width].tolist()
    assert len(rows.tokens) - len(seen) < width


@given(st.integers(0, 2**31), st.lists(st.integers(0, 999), min_size=1, max_size=8))
def test_a_row_depends_on_the_seed_and_its_index_alone(seed, indices):
    first = packed(500, seed=seed)
    expected = {index: first[index] for index in indices}
    other = packed(500, seed=seed, length=1000)
    for index in [*reversed(indices), *indices]:
        for name in ("input_ids", "labels"):
            assert np.array_equal(other[index][name], expected[index][name])


def test_seeds_and_epochs_differ():
    base, other = packed(800), packed(800, seed=1)
    count = base.rows_per_epoch
    orders = [
        [int(unmasked(rows[index])[1]) for index in range(start, start + count)]
        for rows, start in ((base, 0), (base, count), (base, 2 * count), (other, 0))
    ]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert sorted(orders[0]) != orders[0]
    # The same text is masked otherwise in another epoch.
    place = {int(unmasked(base[index])[1]): index for index in range(count)}
    later = {int(unmasked(base[index])[1]): index for index in range(count, 2 * count)}
    same = [np.array_equal(base[place[start]]["labels"], base[later[start]]["labels"]) for start in place]
    assert sum(same) < count / 2
    # And its masks are drawn anew, not by the place in the epoch.
    masks = [[base[start + place]["labels"] != IGNORED for place in range(count)] for start in (0, count)]
    assert sum(map(np.array_equal, *masks)) < count / 2


def test_rows_end():
    rows = packed(100, length=25)
    assert len(rows) == len(list(rows)) == 25
    for index in (25, -1):
        with pytest.raises(IndexError):
            rows[index]


def test_a_row_by_its_place():
    rows = packed(100, 12)
    assert rows.row(0).tolist() == [0, *range(5, 15), 2]
    assert rows.row(9).tolist() == [0, *range(95, 105), 2]
