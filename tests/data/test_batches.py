import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.batches import attention_mask, shuffled_length_batches, stacked, token_budget_batches

lengths_of = st.lists(st.integers(0, 600), max_size=200)


def padded(lengths: list[int], batch: list[int]) -> int:
    return len(batch) * max(lengths[index] for index in batch)


def test_token_budget_by_hand():
    # Sorted: 1 (row 1), 3 (row 0), 3 (row 3), 4 (row 4), 9 (row 2).
    # 3 rows x 3 = 9 tokens fit in 12; 4 rows x 4 would be 16; 2 rows x 9 would be 18.
    lengths = [3, 1, 9, 3, 4]
    assert token_budget_batches(lengths, max_tokens=12, max_rows=8) == [[1, 0, 3], [4], [2]]
    assert token_budget_batches(lengths, max_tokens=12, max_rows=2) == [[1, 0], [3, 4], [2]]
    assert token_budget_batches(lengths, max_tokens=16, max_rows=8) == [[1, 0, 3, 4], [2]]
    assert token_budget_batches([], max_tokens=1, max_rows=1) == []


@given(lengths_of, st.integers(1, 2000), st.integers(1, 40))
def test_token_budget_properties(lengths, max_tokens, max_rows):
    batches = token_budget_batches(lengths, max_tokens=max_tokens, max_rows=max_rows)
    flat = [index for batch in batches for index in batch]
    assert flat == sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or padded(lengths, batch) <= max_tokens
    # No batch could have taken the row that begins the next one.
    for batch, (following, *_) in itertools.pairwise(batches):
        assert len(batch) == max_rows or padded(lengths, [*batch, following]) > max_tokens


@given(st.lists(st.lists(st.integers(2, 9), max_size=6), min_size=1, max_size=6))
def test_stacked_rows_are_filled_up_on_the_right(rows):
    longest = max(map(len, rows))
    assert stacked(rows, 1).tolist() == [[*row, *[1] * (longest - len(row))] for row in rows]
    mask = attention_mask(list(map(len, rows)))
    assert mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]


@given(lengths_of, st.integers(1, 40), st.integers(0, 9), st.integers(0, 9), st.integers(1, 5))
def test_shuffled_properties(lengths, rows, seed, epoch, pool):
    batches = shuffled_length_batches(lengths, rows=rows, seed=seed, epoch=epoch, pool=pool)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == rows for batch in batches[:-1])
    assert len(batches) == -(-len(lengths) // rows)
    assert batches == shuffled_length_batches(lengths, rows=rows, seed=seed, epoch=epoch, pool=pool)


def test_shuffled_differs_by_epoch_and_seed_and_saves_padding():
    lengths = [1 + (index * 7919) % 500 for index in range(5000)]
    batches = shuffled_length_batches(lengths, rows=16, seed=0, epoch=0)
    assert batches != shuffled_length_batches(lengths, rows=16, seed=0, epoch=1)
    assert batches != shuffled_length_batches(lengths, rows=16, seed=1, epoch=0)
    assert sum(padded(lengths, batch) for batch in batches) < 1.05 * sum(lengths)
    # The order of the batches says nothing of their length.
    means = [sum(lengths[index] for index in batch) / len(batch) for batch in batches]
    rises = sum(one < two for one, two in itertools.pairwise(means)) / len(means)
    assert 0.4 < rises < 0.6


@pytest.mark.parametrize("bounds", [{"max_tokens": 0}, {"max_rows": 0}, {"max_rows": -1}])
def test_bounds_below_one(bounds):
    with pytest.raises(ValueError, match="must be at least 1"):
        token_budget_batches([1], **{"max_tokens": 1, "max_rows": 1, **bounds})
    with pytest.raises(ValueError, match="rows must be at least 1, not 0"):
        shuffled_length_batches([1], rows=0, seed=0, epoch=0)
