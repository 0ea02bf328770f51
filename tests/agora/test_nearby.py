"""New points near mistakes, and those found in a pool."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora import nearby
from bort.agora.nearby import Embedding, Near
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example

NONE = frozenset()


class Letters:
    """An embedding of how often each letter of a to d occurs."""

    def points(self, examples):
        counts = np.array([[e.text.count(letter) for letter in "abcd"] for e in examples], dtype=np.float32)
        return counts.reshape(-1, 4) / np.maximum(np.linalg.norm(counts.reshape(-1, 4), axis=-1, keepdims=True), 1e-9)


def longer(example, rng):
    return replace(example, text=example.text + rng.choice(["a", "d", ""]))


def near(**settings):
    given = {"made": 0, "embedding": Letters(), "bounds": (0.5, 0.999)}
    return Near(settings.pop("transforms", {"longer": longer}), **(given | settings))


def test_points_that_are_too_near_or_too_far_are_dropped_and_counted():
    made = near(made=30)([Example("aaa"), Example("bc")], random.Random(0), NONE)
    assert {e.text for e in made.near[0]} == {"aaad"}  # aaaa has the cosine 1
    assert {e.text for e in made.near[1]} == {"bca", "bcd"}
    assert made.dropped["too near to the mistake"] > 0
    assert made.dropped["nothing to change"] > 0
    assert sum(map(len, made.near)) + sum(made.dropped.values()) == 60
    far = near(made=30, bounds=(0.99, 0.999))([Example("bc")], random.Random(0), NONE)
    assert far.near == [[]]
    assert far.dropped["too far from the mistake"] > 0


def test_the_nearest_of_the_pool_are_found_and_none_for_two():
    pool = [Example(text) for text in ("aab", "ab", "b", "c", "cd")]
    made = near(pool=pool, found=2, transforms={})([Example("aa"), Example("bb")], random.Random(0), NONE)
    assert [[e.text for e in points] for points in made.near] == [["aab", "ab"], ["b", "c"]]


def test_of_the_nearest_those_are_found_that_are_disputed_most():
    texts = ["aab", "ab", "abb", "aaac", "c", "d", "aaad", "aad", "acc", "cd"]
    disputed = {"ab": 0.9, "abb": 0.5, "aad": 0.5, "cd": 1.0}
    asked = []

    def far(examples):
        asked.extend(example.text for example in examples)
        return np.array([disputed.get(example.text, 0.0) for example in examples])

    finder = near(pool=[Example(text) for text in texts], found=2, transforms={}, disputed=far)
    [points] = finder([Example("aa")], random.Random(0), NONE).near
    assert [e.text for e in points] == ["ab", "aad"]  # of equals the nearest; cd is disputed, but not near
    assert len(asked) == len({*asked}) == 8
    assert "cd" not in asked


class Given:
    """An embedding of texts whose vectors are given, in whole numbers, so that ties are exact."""

    def __init__(self, vectors):
        self.vectors = vectors

    def points(self, examples):
        return np.array([self.vectors[int(example.text)] for example in examples], np.float32)


def chosen_by_a_full_sort(mistakes, texts, found, disputed):
    """Let the mistakes choose in turn from all texts."""
    order = np.argsort(-(mistakes @ texts.T), axis=1, kind="stable").tolist()
    if disputed is not None:
        most = 4 * found
        order = [sorted(row[:most], key=lambda place: -disputed[place]) + row[most:] for row in order]
    near, gone = [[] for _ in order], set()
    for _ in range(found):
        for own, row in zip(near, order, strict=True):
            for place in [place for place in row if place not in gone][:1]:
                own.append(place)
                gone.add(place)
    return near


@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([1, 100, 10**6]),
)
def test_the_nearest_are_those_of_a_full_sort(seed, mistakes, texts, found, by_dispute, cosines):
    rng = np.random.default_rng(seed)
    mistakes, texts = rng.integers(0, 2, (mistakes, 3)), rng.integers(-1, 2, (texts, 3))
    disputed = np.arange(len(texts)) % 3
    finder = Near(
        {},
        made=0,
        embedding=Given([*texts, *mistakes]),
        bounds=(0, 1),
        pool=[Example(str(place)) for place in range(len(texts))],
        found=found,
        disputed=(lambda few: disputed[[int(example.text) for example in few]]) if by_dispute else None,
    )
    asked = [Example(str(len(texts) + place)) for place in range(len(mistakes))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearby, "_KEPT", 2)
        patch.setattr(nearby, "_MOST_COSINES", cosines)
        points = finder(asked, random.Random(0), NONE).near
    expected = chosen_by_a_full_sort(mistakes, texts, found, disputed if by_dispute else None)
    assert [[int(example.text) for example in own] for own in points] == expected


def test_many_mistakes_search_many_texts_in_little_memory(monkeypatch):
    monkeypatch.setattr(nearby, "_MOST_COSINES", 20_000)
    points = np.random.default_rng(0).normal(size=(6200, 4)).astype(np.float32)
    finder = near(transforms={}, embedding=Given(points), pool=[Example(str(n)) for n in range(6000)], found=2)
    tracemalloc.start()
    made = finder([Example(str(6000 + n)) for n in range(200)], random.Random(0), NONE)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(own) for own in made.near] == [2] * 200
    assert most < 6 * 2**20, "all ranks take 9 MiB, and all cosines 5"


def test_what_is_known_is_not_found_and_nothing_is_found_twice():
    finder = near(pool=[Example("aab"), Example("AB"), Example("ab"), Example("c")], found=2, transforms={})
    made = finder([Example("aa")], random.Random(0), {identity(Example(" aab "))})
    assert made.near == [[Example("AB"), Example("c")]]


def test_a_small_pool_is_found_whole():
    made = near(pool=[Example("a")], found=5, transforms={})([Example("aa"), Example("b")], random.Random(0), NONE)
    assert [len(points) for points in made.near] == [1, 0]


def test_a_pool_is_taken_whole_up_to_a_size_each_text_for_the_nearest_mistake():
    pool = [Example(text) for text in ("aab", "ab", "b", "bc")]
    mistakes = [Example("aa"), Example("bb")]
    made = near(pool=pool, whole=4, transforms={})(mistakes, random.Random(0), {identity(Example("b"))})
    assert [[e.text for e in points] for points in made.near] == [["aab", "ab"], ["bc"]]
    assert near(pool=pool, whole=3, transforms={})(mistakes, random.Random(0), NONE).near == [[], []]


def test_points_are_made_of_some_mistakes_only():
    chosen = {identity(Example("bc"))}
    made = near(made=30, made_from=chosen)([Example("aaa"), Example("bc")], random.Random(0), NONE)
    assert made.near[0] == []
    assert made.near[1]


@pytest.fixture(scope="module")
def embedding():
    return Embedding("bort-nano")


def test_vectors_say_what_is_like_what(embedding):
    texts = ["a terrible movie", "an awful film", "the president was elected"]
    vectors = embedding.points([Example(text) for text in texts])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_pairs_have_the_mean_of_their_cosines(embedding):
    one, two = Example("a movie", "a film"), Example("the movie", "a president")
    cosine = float(np.dot(*embedding.points([one, two])))
    a, b, c, d = embedding.texts(["a movie", "the movie", "a film", "a president"])
    assert cosine == pytest.approx((a @ b + c @ d) / 2, abs=1e-5)
    assert embedding.features([one, two]).shape == (2, 4 * 384 + 1)


def test_no_examples_have_no_vectors(embedding):
    assert embedding.points([]).shape == (0, 384)
