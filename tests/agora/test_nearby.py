"""New points near mistakes, and those found in a pool."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from bort.agora.nearby import Embedding, Near, identity
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


def test_identity_ignores_case_and_space_and_knows_pairs():
    assert identity(Example("A  b\n")) == identity(Example("a b"))
    assert identity(Example("a", "b")) != identity(Example("a b"))
    assert identity(Example("a", "b")) != identity(Example("b", "a"))


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
