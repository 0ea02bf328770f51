"""What is said of findings."""

import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from bort.data.tables.checks import check_examples
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.inspection.examine import examine
from bort.inspection.inspect import Inspection, doubts_in, languages_in, near_in
from bort.inspection.page import doubts_table, labels_table
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel

TASK = Classification(("a", "b"), "accuracy")


def parts():
    train = [Example("one", None, "a", "t.csv", 2), Example("two", None, "b", "t.csv", 3)]
    return {"train": train, "dev": [Example("one !", None, "b", "d.csv", 2)]}


def inspection():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    says = np.log(np.array([[0.9, 0.1], [0.1, 0.9], [0.95, 0.05]]))
    targets = np.array([0, 1, 1])
    doubts, judged = doubts_in(parts(), says, targets, TASK)
    return Inspection(
        check_examples(parts()),
        languages_in(parts()),
        near_in(parts(), [vectors]),
        doubts,
        compared=3,
        judged=judged,
    )


def test_sentences_name_places_and_labels():
    near, conflicting, doubt = inspection().sentences()
    assert near == "1 text is almost the same as texts of another part, such as d.csv:2 and t.csv:2 (cosine 1.00)"
    assert "d.csv:2 'b' and t.csv:2 'a'" in conflicting
    assert doubt == "1 of the 3 labels is perhaps wrong, d.csv:2: 'b', where a linear head, with 0.95, says 'a'"


@pytest.mark.parametrize(("numbers", "conflicting"), [(True, [False, True]), (False, [True, True])])
def test_a_number_written_in_two_ways_is_no_conflict(numbers, conflicting):
    labels = {"one": "4", "one !": "4.0", "two": "3.5", "two !": 4.5}
    rows = [Example(text, None, label) for text, label in labels.items()]
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = near_in({"train": rows}, [vectors], numbers=numbers)
    assert [near.conflicting for near in sorted(found, key=lambda near: near.text)] == conflicting


def test_the_first_of_the_pairs_may_lack_its_second_text():
    parts = {"train": [Example("a", "b", "x"), Example("c", "d", "y")], "more": [Example("e"), Example("f", "g")]}
    examined = examine(parts, "bort-nano", max_length=9, most=9)
    assert examined.lengths["more"].longest == 5
    with pytest.raises(BortError, match=r"value 'g': must hold pairs where"):
        examine({"train": [Example("a", None, "x")], "more": parts["more"]}, None, max_length=9, most=9)


def test_the_table_of_doubts():
    head, rows = doubts_table([*map(asdict, inspection().doubts)], 5)
    assert rows == [["dev 2", "b (0.05)", "a (0.95)", "one !"]]
    assert len(head) == 4


def test_other_languages_are_worth_a_line_where_they_are_one_in_five_hundred():
    german = Example("Wo ist mein Paket, und wann kommt es an?", None, None, "a", 1)
    english = [Example("Where is it?", None, None, "a", n) for n in range(2, 800)]
    check = check_examples({"a": english[:1]})
    few = Inspection(check, languages_in({"a": [german, *english]}))
    many = Inspection(check, languages_in({"a": [german, german, *english]}))
    assert (few.languages.count, few.sentences()) == (1, [])
    assert "2 of the 800 texts look like another language than English (German 2; such as a:1)" in many.sentences()[0]
    assert languages_in({"a": [german] * 10}, most=3).read == 3


def test_many_labels_are_counted_in_one_line():
    examined = examine(
        {"train": [Example(f"text {n}", None, f"label {n}") for n in range(7)]}, None, max_length=9, most=9
    )
    _, rows = labels_table(examined.labels, 5)
    assert rows[-1] == ["… and 2 more", ""]
    assert [row[1] for row in rows[:-1]] == [1] * 5


def test_labels_are_counted_in_the_memory_of_their_text():
    labels = ["x" * 10_000, *("b" * 900), *("a" * 900)]
    rows = {"train": [Example(f"text {n}", None, label) for n, label in enumerate(labels)]}
    tracemalloc.start()
    try:
        labels = examine(rows, None, max_length=9, most=9).labels["train"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [*labels.items()] == [("a", 900), ("b", 900), ("x" * 10_000, 1)]
    assert peak < 10_000_000


def test_a_number_written_in_two_ways_is_one_class():
    texts = ["one text", "another text"]
    train = [Example(text, None, label, "t.csv", 2) for text, label in zip(texts, ("0", "1"), strict=True)]
    dev = [Example(text, None, label, "d.csv", 2) for text, label in zip(texts, (0.0, 1.0), strict=True)]
    for parts in ({"train": train, "dev": dev}, {"train": dev, "dev": train}):
        examined = examine(parts, None, max_length=9, most=9)
        assert examined.labels == {"train": {"0": 1, "1": 1}, "dev": {"0": 1, "1": 1}}
        check = examined.inspection.check
        assert (check.conflicts, check.look_alikes) == ((), ())


@pytest.mark.parametrize("most", [2, 5])
def test_large_data_are_drawn_from(most):
    read = {"train": [Example(f"a text {n}", None, "ab"[n % 2]) for n in range(8)], "dev": [Example("x", None, "a")]}
    assert examine(read, "bort-nano", max_length=9, most=most).inspection.compared == most + (most == 2)


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_are_measured_whole(pairs):
    """Also where the encoder reads no more tokens than the limit."""
    long, second = "word " * 600, "word" if pairs else None
    read = {"train": [Example(long, second, "a"), Example("x", second, "b")]}
    lengths = examine(read, "bort-nano", max_length=512, most=9).lengths["train"]
    assert (lengths.cut, lengths.longest) == (1, 604 if pairs else 602)


def test_a_label_that_the_head_never_saw_is_not_judged():
    rows = {"train": [Example(f"text {n}", None, label) for n, label in enumerate("aaabbbc")]}
    p = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], [0.1, 0.9, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [1, 0, 0]])
    with np.errstate(divide="ignore"):
        doubts, judged = doubts_in(rows, np.log(p), np.array([0, 0, 0, 1, 1, 1, 2]), Classification((*"abc",), "f1"))
    assert [doubt.text for doubt in doubts] == ["text 2"]
    assert judged == 6


def test_a_label_that_the_head_saw_everywhere_or_nowhere_is_not_judged():
    rows = {"train": [Example(f"text {n}", None, ()) for n in range(6)]}
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 1]], np.float32)
    odds = np.where(np.array([1, 1, 1, 0, 0, 0])[:, None] > 0, 2.0, -2.0) * np.ones((1, 3))
    odds[:, 1], odds[3:, 1], odds[:3, 2], odds[3:, 2] = -3.0, -np.inf, np.inf, 2.0
    doubts, judged = doubts_in(rows, odds, targets, MultiLabel((*"abc",), "f1_micro"))
    assert [(doubt.text, doubt.answer) for doubt in doubts] == [("text 2", "a")]
    assert judged == 18 - 6


def test_labels_of_which_only_one_occurs_are_not_judged():
    rows = {"train": [Example("a cat", None, ("toxic",)), Example("a dog", None, ()), Example("a cow", None, ())]}
    inspection = examine(rows, "bort-nano", max_length=9, most=9).inspection
    assert (inspection.doubts, inspection.judged, inspection.compared) == (None, 0, 3)
