"""What is chosen: properties of the traversal, and that it finds what is unknown."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.inspection.choose import choose_texts, uncertainty, uncertainty_of_labels


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 40), st.integers(0, 4))
def test_distinct_texts_of_the_unsure_half_and_each_prefix_is_a_choice(seed, texts, count, labelled):
    rng = np.random.default_rng(seed)
    vectors, unsure = unit(rng.normal(size=(texts, 4))), rng.random(texts)
    known = unit(rng.normal(size=(labelled, 4))) if labelled else None
    chosen = choose_texts(vectors, unsure, count, labelled=known)
    assert len(chosen) == len(set(chosen)) == min(count, texts)
    half = max(min(count, texts), -(-texts // 2))
    assert {*chosen} <= {*np.argsort(-unsure, kind="stable")[:half].tolist()}
    fewer = min(count, -(-texts // 2))
    assert choose_texts(vectors, unsure, max(1, fewer // 2), labelled=known) == chosen[: max(1, fewer // 2)] or (
        count > -(-texts // 2)
    )


@given(st.integers(0, 10_000), st.integers(4, 30))
def test_each_is_the_best_at_its_turn(seed, texts):
    rng = np.random.default_rng(seed)
    vectors, unsure, known = unit(rng.normal(size=(texts, 3))), rng.random(texts), unit(rng.normal(size=(2, 3)))
    chosen = choose_texts(vectors, unsure, texts // 2, labelled=known)
    half = np.argsort(-unsure, kind="stable")[: -(-texts // 2)]
    for turn, place in enumerate(chosen):
        near = np.vstack([known, vectors[chosen[:turn]]])
        gain = {int(n): unsure[n] * (1 - (near @ vectors[n]).max()) for n in half if n not in chosen[:turn]}
        assert gain[place] == pytest.approx(max(gain.values()), abs=1e-6)


def test_what_lies_beside_a_labelled_text_comes_last():
    vectors = unit(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert choose_texts(vectors, np.ones(3), 3, labelled=vectors[:1])[-1] == 0


def test_memory_does_not_grow_with_the_labelled_texts():
    rng = np.random.default_rng(0)
    vectors, known = (unit(rng.normal(size=(count, 3)).astype(np.float32)) for count in (10_000, 6_000))
    tracemalloc.start()
    chosen = choose_texts(vectors, np.ones(len(vectors)), 3, labelled=known)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert chosen[0] == (vectors @ known.T).max(1).argmin()


def test_equal_texts_are_taken_once_before_any_is_taken_twice():
    vectors = unit(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert {*choose_texts(vectors, np.ones(4), 4)[:2]} in ({0, 2}, {0, 3}, {1, 2}, {1, 3})


def test_uncertainty_is_one_minus_the_margin():
    assert uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.3, 0.1, 0.6]])).tolist() == pytest.approx(
        [1.0, 0.0, 0.7]
    )


def test_a_label_that_is_never_given_makes_no_text_unsure():
    found = uncertainty_of_labels(np.array([[0.99, 0.1], [0.0, 0.5]]), np.array([1.0, 0.5]))
    assert found == pytest.approx([0.2, 1.0])
