"""Transformations of texts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.transforms import chain, delete, swap, synonyms, typo
from bort.agora.word_model import Language, check_transforms, transforms
from bort.data.tables.examples import Example
from bort.errors import BortError

WORDS = st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=1, max_size=20)
SEEDS = st.integers(0, 1000)


@pytest.fixture(scope="module")
def language():
    return Language()


def one(transform, text, seed):
    return transform(Example(text), random.Random(seed)).text


@given(WORDS, SEEDS)
def test_deleting_leaves_some_words_in_their_order(words, seed):
    left = one(delete, " ".join(words), seed).split()
    items = iter(words)
    assert all(word in items for word in left)
    assert len(left) >= 1
    assert len(left) < len(words) or len(words) == 1


@given(WORDS, SEEDS)
def test_swapping_keeps_all_words(words, seed):
    text = " ".join(words)
    assert sorted(one(swap, text, seed).split()) == sorted(text.split())


@given(WORDS, SEEDS)
def test_mistyping_keeps_the_number_of_words_and_changes_few(words, seed):
    text = " ".join(words)
    changed = [a != b for a, b in zip(text.split(" "), one(typo, text, seed).split(" "), strict=True)]
    long = [len(word) >= 3 for word in words]
    assert sum(changed) <= max(1, round(0.15 * sum(long)))
    assert any(changed) or not any(len({*word}) > 1 for word, eligible in zip(words, long, strict=True) if eligible)


@given(WORDS, SEEDS, st.sampled_from([delete, swap, typo, chain(swap, typo)]))
def test_the_same_chance_makes_the_same_text(words, seed, transform):
    assert one(transform, " ".join(words), seed) == one(transform, " ".join(words), seed)


@given(SEEDS, st.sampled_from([delete, swap, typo, chain(swap, delete), chain(delete, typo)]))
def test_of_a_pair_one_text_is_changed(seed, transform):
    pair = Example("some words that can be changed", "and some other words beside them", "yes")
    made = transform(pair, random.Random(seed))
    assert (made.text == pair.text) != (made.text_b == pair.text_b)
    assert made.label is None


def test_synonyms_keep_case_and_punctuation():
    change = synonyms({"good": ["fine"], "film": ["movie"]}.get)

    def neighbours(word):
        return {"good": ["fine"], "film": ["movie"]}.get(word, [])

    change = synonyms(neighbours)
    rng = random.Random(0)
    assert change("Good?", rng) == "Fine?"
    assert change("“FILM”,", rng) == "“MOVIE”,"
    assert change("a  bad play", rng) == "a  bad play"


def test_words_of_a_model_are_near_in_meaning(language):
    assert {"awful", "horrible"} & {*language.neighbours("terrible")}
    assert "terrible" not in language.neighbours("terrible")
    assert language.neighbours("xqzzy") == ()


def test_filling_in_changes_a_share_of_the_words_and_keeps_the_others(language):
    text = "One two, three (four) five six seven eight nine ten."
    made = [one(transforms(["infill"], lambda: language)["infill"], text, seed) for seed in range(20)]
    assert any(each != text for each in made)
    for each in made:
        same = sum(word in each.split() for word in text.split())
        assert same >= 8  # two of ten words are masked
    assert made == [one(transforms(["infill"], lambda: language)["infill"], text, seed) for seed in range(20)]


@pytest.mark.parametrize("text", ["", " ", "x", "?!", "héllo wörld " * 300])
def test_odd_texts_pass_through(language, text):
    for name, transform in transforms(["infill", "synonym", "swap", "delete", "typo"], lambda: language).items():
        assert isinstance(one(transform, text, 0), str), name


def test_names_joined_by_a_plus_are_applied_one_after_another():
    joined = transforms(["swap+delete"], Language)["swap+delete"]
    words = ["a", "b", "c", "d", "e", "f"]
    made = one(joined, " ".join(words), 1).split()
    assert len(made) == 5
    assert made != [word for word in words if word in made]


def test_an_unknown_name_is_refused():
    with pytest.raises(BortError, match=r"value 'swap\+shuffle': must be of infill, synonym"):
        check_transforms(["swap+shuffle"])
