from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.checks import LONG_CHARACTERS, check_examples, fold_text, identity, look_alike_labels
from bort.data.tables.examples import Example


def rows(*labelled: tuple[str, str | float], part: str = "train") -> list[Example]:
    return [
        Example(text, label=label, source=f"{part}.csv", line=line) for line, (text, label) in enumerate(labelled, 2)
    ]


def test_clean_data_give_no_finding():
    found = check_examples({"train": rows(("a", "x"), ("b", "y")), "dev": rows(("c", "x"), part="dev")})
    assert found.sentences() == []
    assert found.rows == {"train": 2, "dev": 1}
    assert (found.repeats, found.conflicts, found.look_alikes, found.empty, found.long) == ((), (), (), {}, {})


def test_texts_of_one_part_that_another_has_are_counted_exactly_and_folded():
    train = rows(("Red tent", "x"), ("blue tent", "y"), ("green", "x"))
    dev = rows(("Red tent", "x"), (" RED  TENT", "x"), ("yellow", "y"), part="dev")
    test = rows(("GREEN", "x"), ("red tent", "x"), part="test")
    found = check_examples({"train": train, "dev": dev, "test": test})
    counts = {(each.part, each.known): (each.rows, each.exact, each.folded) for each in found.repeats}
    assert counts == {("dev", "train"): (3, 1, 2), ("dev", "dev"): (3, 0, 1), ("test", "train"): (2, 0, 2),
                      ("test", "dev"): (2, 0, 1)}  # fmt: skip
    assert found.leaked == {"dev": 2, "test": 2}
    assert found.repeats[0].sample == ("dev.csv:2", "train.csv:2")
    assert found.sentences()[0] == (
        "2 of the 3 development texts are training texts too (1 exactly, 1 but for case, spacing, Unicode form or "
        "invisible characters), such as dev.csv:2 and train.csv:2; the score on the development texts is too good"
    )


def test_repeats_within_a_part():
    found = check_examples({"train": rows(("a", "x"), ("a", "x"), ("A ", "x"), ("b", "y"))})
    (within,) = found.repeats
    assert (within.part, within.known, within.exact, within.folded) == ("train", "train", 1, 2)
    assert found.leaked == {}


def test_pairs_are_compared_whole_and_a_pair_is_no_single_text():
    pairs = [Example("a", "b", "x"), Example("a", "c", "x"), Example("A", "B", "x")]
    (repeat,) = check_examples({"train": pairs, "dev": [Example("a", None, "x")]}).repeats
    assert (repeat.known, repeat.exact, repeat.folded) == ("train", 0, 1)
    choices = [Example("q", label="0", choices=("a", "b")), Example("q", label="0", choices=("a", "c"))]
    assert check_examples({"train": choices}).repeats == ()
    assert check_examples({"train": [Example("a", "b", "x"), Example("a", label="x", choices=("b",))]}).repeats == ()


def test_equal_texts_with_different_labels_across_parts():
    train = rows(("late", "x"), ("late", "y"), ("Late", "x"), ("wet", "x"), ("dry", "x"))
    found = check_examples({"train": train, "dev": rows(("WET", "y"), part="dev")})
    assert (found.conflicting_texts, found.conflicting_exactly) == (2, 1)
    late, wet = found.conflicts
    assert (late.text, late.labels, late.places, late.exact) == (
        "late",
        ("x", "y"),
        ("train.csv:2", "train.csv:3"),
        True,
    )
    assert (wet.labels, wet.places, wet.exact) == (("x", "y"), ("train.csv:5", "dev.csv:2"), False)
    (line,) = [each for each in found.sentences() if "different labels" in each]
    assert line.startswith("2 equal texts have different labels (1 exactly, 1 but for")
    assert line.endswith("such as train.csv:2 'x' and train.csv:3 'y'")


def test_numbers_conflict_by_value_and_never_look_alike():
    train = rows(("a", "1"), ("a", "1.0"), ("b", 2.0), ("b", "2.5"))
    found = check_examples({"train": train}, numbers=True)
    assert [each.text for each in found.conflicts] == ["b"]
    assert found.look_alikes == ()


@pytest.mark.parametrize(
    ("first", "second", "differ_in"),
    [
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("spam", "sp\u200bam", "invisible characters"),
        ("spam", "spam\ufeff", "invisible characters"),
        ("spam", "Spam", "case"),
        ("not spam", "not  spam", "spacing"),
        ("\uff11", "1", "how the number is written"),
        ("1", "1.0", "how the number is written"),
        ("1.1", "1.10", "how the number is written"),
        ("Caf\u00e9", "cafe\u0301", "case, spacing, Unicode form or invisible characters"),
    ],
)
def test_labels_that_hardly_differ(first, second, differ_in):
    (found,) = look_alike_labels(rows(("a", first), ("b", first), ("c", second), ("d", "other")))
    assert found.labels == (first, second)
    assert found.counts == (2, 1)
    assert found.differ_in == differ_in


def test_the_sentence_on_look_alike_labels_shows_what_cannot_be_seen():
    (line,) = check_examples({"train": rows(("a", "x\u200b"), ("b", "x"), ("c", "y"))}).sentences()
    assert r"'x\u200b' (1), 'x' (1)" in line


def test_different_labels_are_not_look_alikes():
    assert (
        look_alike_labels(rows(("a", "spam"), ("b", "ham"), ("c", "1"), ("d", "2"), ("e", "nan"), ("f", "inf"))) == ()
    )


def test_texts_without_anything_to_see_and_long_ones():
    long = "x" * (LONG_CHARACTERS + 1)
    found = check_examples(
        {"train": rows(("\u200b \ufeff", "x"), (long, "x"), ("a", "x"), ("x" * LONG_CHARACTERS, "x"))}
    )
    assert (found.empty, found.long) == ({"train": 1}, {"train": 1})
    assert len(found.sentences()) == 2
    assert check_examples({"dev": [Example("a", "", "x"), Example("a", " b", "x")]}).empty == {"dev": 1}


def test_many_rows_alike_are_counted_in_linear_time():
    found = check_examples({"train": rows(*[("a", str(i)) for i in range(20_000)])})
    assert found.repeats[0].exact == 19_999
    assert found.conflicting_texts == 1


def test_the_result_is_json():
    found = check_examples({"train": rows(("a", "x"), ("a", "X")), "dev": rows(("A", "x"), part="dev")})
    kept = json.loads(json.dumps(dataclasses.asdict(found)))
    assert kept["repeats"][0]["exact"] == 1
    assert kept["look_alikes"][0]["differ_in"] == "case"


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from("xy")), max_size=12), st.lists(st.text(max_size=3)))
def test_counts_against_their_definition(labelled, others):
    train, dev = rows(*labelled), rows(*[(text, "x") for text in others], part="dev")
    found = check_examples({"train": train, "dev": dev})
    known, folded = {each.text for each in train}, {fold_text(each.text) for each in train}
    counts = {(each.part, each.known): (each.exact, each.folded) for each in found.repeats}
    assert counts.get(("dev", "train"), (0, 0))[1] == sum(fold_text(text) in folded for text in others)
    assert counts.get(("dev", "train"), (0, 0))[0] == sum(text in known for text in others)
    assert counts.get(("train", "train"), (0, 0)) == (len(train) - len(known), len(train) - len(folded))


@given(st.text())
def test_folding_twice_is_folding_once(text):
    assert fold_text(fold_text(text)) == fold_text(text)


def test_identity_ignores_case_and_space_and_knows_pairs():
    assert identity(Example("A  b\n")) == identity(Example("a b"))
    assert identity(Example("a", "b")) != identity(Example("a b"))
    assert identity(Example("a", "b")) != identity(Example("b", "a"))
