"""What a model is measured against."""

from __future__ import annotations

import random

import pytest

from bort.data.tables.examples import Example
from bort.tasks.baselines import INVERSE_REGULARISATIONS, majority, tfidf


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(text, label=label) for text, label in pairs]


def topics(count: int, seed: int) -> list[Example]:
    words = {"sport": ["ball", "goal", "team"], "food": ["soup", "bread", "salt"]}
    rng = random.Random(seed)
    return [
        Example(" ".join([*rng.choices(words[label], k=3), *rng.choices(["the", "and"], k=3)]), label=label)
        for label in rng.choices(sorted(words), k=count)
    ]


def test_majority_by_hand():
    train = rows(("x", "b"), ("x", "a"), ("x", "b"))
    dev, test = rows(("x", "b"), ("x", "a")), rows(("x", "b"), ("x", "b"), ("x", "c"), ("x", "a"))
    assert majority(train, dev, test) == {"dev": 0.5, "test": 0.5}


def test_majority_of_a_tie_is_always_the_same():
    train = rows(("x", "b"), ("x", "a"))
    test = rows(("x", "a"))
    assert majority(train, test, test) == majority(train[::-1], test, test) == {"dev": 1.0, "test": 1.0}


def test_majority_of_numbers_as_labels():
    train = [Example("x", label=1.0), Example("x", label=1.0), Example("x", label=2.5)]
    assert majority(train, train, train)["dev"] == pytest.approx(2 / 3)


def test_tfidf_learns_what_words_say():
    scores = tfidf(topics(60, 0), topics(30, 1), topics(30, 2))
    assert scores["dev"] == scores["test"] == 1
    assert scores["C"] == INVERSE_REGULARISATIONS[0], "the least on a tie"
    assert scores == tfidf(topics(60, 0), topics(30, 1), topics(30, 2))


def test_tfidf_does_not_look_at_the_test():
    dev = topics(30, 1)
    flipped = [Example(e.text, label="food" if e.label == "sport" else "sport") for e in topics(30, 2)]
    scores = tfidf(topics(60, 0), dev, flipped)
    assert scores["dev"] == 1
    assert scores["test"] == 0


def test_tfidf_of_pairs_sees_how_the_two_differ():
    """Whether the second text repeats the first: no single text tells."""
    words = ["apple", "river", "stone", "cloud", "candle", "bridge"]

    def pairs(count: int, seed: int) -> list[Example]:
        rng = random.Random(seed)
        made = []
        for _ in range(count):
            first, second = rng.sample(words, 2)
            same = rng.random() < 0.5
            made.append(Example(first, first if same else second, "same" if same else "other"))
        return made

    scores = tfidf(pairs(200, 0), pairs(60, 1), pairs(60, 2))
    assert scores["test"] > 0.9
    single = [[Example(e.text, label=e.label) for e in pairs(60, seed)] for seed in range(3)]
    assert tfidf(*single)["test"] < 0.75


def test_texts_without_words():
    """Single letters, signs, nothing: then the majority is all there is to know."""
    train = rows(("a", "x"), ("!?", "x"), ("", "y"))
    assert tfidf(train, train, train) == majority(train, train, train)
