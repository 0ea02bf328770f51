"""Which blocks stay in fp32: the worst first, as few as pass."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.export.precision import keep_worst, mixtures, shares

MOVEMENT = st.dictionaries(st.text("abcdef", min_size=1), st.floats(0, 1e6), max_size=8)


@given(MOVEMENT)
def test_mixtures_grow_by_the_next_worst_and_are_never_all(movement):
    found = list(mixtures(movement))
    assert len(found) == max(0, len(movement) - 1)
    for number, kept in enumerate(found, 1):
        assert len(kept) == number
        assert min(movement[b] for b in kept) >= max(movement[b] for b in movement.keys() - kept)
    assert all(small < large for small, large in itertools.pairwise(found))


@given(MOVEMENT, st.data())
def test_the_first_that_passes_is_taken_and_no_more_are_asked(movement, data):
    passing = {kept: data.draw(st.booleans()) for kept in mixtures(movement)}
    asked = []

    def passes(kept):
        asked.append(kept)
        return passing[kept]

    kept = keep_worst(movement, passes)
    assert asked == list(passing)[: len(asked)]
    assert [passing[one] for one in asked] == [False] * (len(asked) - (kept is not None)) + [True] * (kept is not None)
    assert kept == (asked[-1] if kept is not None else None)
    if kept is None:
        assert not any(passing.values())


@given(MOVEMENT)
def test_shares(movement):
    found = shares(movement)
    assert found.keys() == movement.keys()
    assert sum(found.values()) == pytest.approx(1 if any(movement.values()) else 0)
