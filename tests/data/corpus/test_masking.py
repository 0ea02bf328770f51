"""Masks: how many, where, and what stands there instead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.corpus.masking import Masker
from bort.model.config import IGNORED

VOCABULARY = 40
MASK = 4


@st.composite
def rows(draw):
    """A masker, a row of ids, a seed."""
    special = draw(st.sets(st.integers(0, VOCABULARY - 1), max_size=12)) | {MASK}
    probability = draw(st.floats(0.01, 0.99))
    ids = draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=80))
    order = draw(st.permutations(sorted(special)))
    masker = Masker(mask_id=MASK, special_ids=tuple(order), vocab_size=VOCABULARY, probability=probability)
    return masker, np.asarray(ids, dtype=np.int64), draw(st.integers(0, 2**32))


@given(rows())
def test_what_holds_for_every_row(drawn):
    masker, ids, seed = drawn
    before = ids.copy()
    inputs, labels = masker(ids, np.random.default_rng(seed))
    assert np.array_equal(ids, before)
    assert inputs.shape == labels.shape == ids.shape
    assert inputs.dtype == labels.dtype == np.int64

    chosen = labels != IGNORED
    special = np.isin(ids, masker.special_ids)
    ordinary = int((~special).sum())
    assert chosen.sum() == max(round(masker.probability * ordinary), min(1, ordinary))
    assert not (chosen & special).any()
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(inputs[~chosen], ids[~chosen])
    drawn_ids = inputs[chosen & (inputs != MASK)]
    assert not np.isin(drawn_ids, masker.special_ids).any()
    assert ((drawn_ids >= 0) & (drawn_ids < VOCABULARY)).all()

    again = masker(ids, np.random.default_rng(seed))
    assert np.array_equal(again[0], inputs)
    assert np.array_equal(again[1], labels)


def test_nothing_to_choose():
    masker = Masker(mask_id=MASK, special_ids=(0, 1, 2, 3, MASK), vocab_size=VOCABULARY)
    ids = np.asarray([0, 1, 2, 2], dtype=np.int64)
    inputs, labels = masker(ids, np.random.default_rng(0))
    assert inputs.tolist() == ids.tolist()
    assert set(labels.tolist()) == {IGNORED}


def test_eighty_ten_ten():
    size = 400_000
    special = (0, 1, 2, 3, MASK, 17, VOCABULARY - 1)
    masker = Masker(mask_id=MASK, special_ids=special, vocab_size=VOCABULARY)
    ids = np.full(size, 20, dtype=np.int64)
    inputs, labels = masker(ids, np.random.default_rng(3))
    chosen = inputs[labels != IGNORED]
    assert len(chosen) == 0.15 * size
    ordinary = VOCABULARY - len(special)
    assert (chosen == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # A tenth stays, and of the tenth that is drawn, one in all ordinary ids is the old one.
    assert (chosen == 20).mean() == pytest.approx(0.1 + 0.1 / ordinary, abs=0.01)
    counts = np.bincount(chosen[(chosen != MASK) & (chosen != 20)], minlength=VOCABULARY)
    expected = 0.1 * len(chosen) / ordinary
    for number in range(VOCABULARY):
        drawable = number not in (*special, 20)
        assert counts[number] == (pytest.approx(expected, rel=0.3) if drawable else 0), number


def test_places_are_chosen_evenly():
    masker = Masker(mask_id=MASK, special_ids=(0, MASK), vocab_size=VOCABULARY)
    ids = np.asarray([0, *range(5, 25), 0], dtype=np.int64)
    rng = np.random.default_rng(1)
    hits = sum((masker(ids, rng)[1] != IGNORED).astype(int) for _ in range(4000))
    assert hits[0] == hits[-1] == 0
    assert hits[1:-1] == pytest.approx(np.full(20, 600), rel=0.2)
