"""Texts are tokenised in slices of bounded size."""

from __future__ import annotations

import pytest

from bort.model.text_slices import MOST_CHARACTERS, MOST_TEXTS, text_slices

MOST = "a" * MOST_CHARACTERS


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        ([], []),
        ([""], [1]),
        (["a"] * (2 * MOST_TEXTS + 1), [MOST_TEXTS, MOST_TEXTS, 1]),
        ([MOST[1:], "a", "", "a"], [3, 1]),
        (["a", MOST + "a", "", "a"], [1, 1, 2]),
        ([(MOST[1:], "a"), ("", ""), ("", "a")], [2, 1]),
    ],
)
def test_a_slice_has_a_bounded_size(texts, sizes):
    slices = list(text_slices(texts))
    assert [len(part) for part in slices] == sizes
    assert [text for part in slices for text in part] == texts


def test_no_more_is_read_than_a_slice_needs():
    texts = iter(["a"] * (2 * MOST_TEXTS))
    next(text_slices(texts))
    assert len(list(texts)) == MOST_TEXTS - 1
