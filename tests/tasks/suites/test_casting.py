"""How each task's rows become texts, pairs and choices."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.tasks.suites.casting import CastRow, balanced, cast_record
from bort.tasks.suites.records import Record
from bort.tasks.suites.table import TASKS


def cast(name: str, row: dict, how: str = "improved") -> list[CastRow]:
    return list(cast_record(TASKS[name], Record(row, "f", 1, 0), how))


def texts(rows: list[CastRow]) -> list[tuple]:
    return [(row.example.text, row.example.text_b, row.example.label) for row in rows]


COPA = {
    "premise": "It rained.",
    "choice1": "He got wet.",
    "choice2": "He ate.",
    "question": "effect",
    "label": 1,
    "idx": 4,
}


def test_copa_chooses_or_pairs_as_released():
    (row,) = cast("copa", COPA)
    assert row.example == Example("It rained. so", None, "1", choices=("He got wet.", "He ate."))
    assert row.idx == (4,)
    (row,) = cast("copa", COPA | {"question": "cause"}, "released")
    expected = ("It rained. because He got wet.", "It rained. because He ate.", "1")
    assert texts([row]) == [expected]
    assert not row.example.choices


RACE = {
    "article": "Ann ran.",
    "question": "Who?",
    "options": ["A.", "B.", "C.", "D."],
    "answer": "C",
    "example_id": "m1",
}


def test_race_chooses_or_pairs_as_released():
    (row,) = cast("race_m", RACE)
    assert row.example == Example("Ann ran.", None, "C", choices=("Who? A.", "Who? B.", "Who? C.", "Who? D."))
    (row,) = cast("race_m", RACE, "released")
    assert texts([row]) == [("Ann ran. Who?", "A. </sep> B. </sep> C. </sep> D.", "C")]


def test_a_cloze_of_race_is_filled():
    question = "Ann went   _   with _ ."
    (row,) = cast("race_m", RACE | {"question": question, "options": ["home", "\\1", "_", ""]})
    assert row.example.choices[0] == "Ann went   home   with home ."
    assert row.example.choices[1:] == (
        "Ann went   \\1   with \\1 .",
        "Ann went   _   with _ .",
        "Ann went      with  .",
    )
    (row,) = cast("race_m", RACE | {"question": "Where is ____?", "options": ["a", "b", "c", "d"]})
    assert row.example.choices[0] == "Where is a?"
    (row,) = cast("race_m", RACE | {"question": question}, "released")
    assert row.example.text == f"Ann ran. {question}"


def test_a_blank_answer_of_the_hubs_multirc():
    row = {"paragraph": "p", "question": "q?", "answer": " ", "label": "False"}
    (found,) = cast("multirc", row | {"idx": {"paragraph": 1, "question": 2, "answer": 3}})
    assert texts([found]) == [("p", "q? ", "0")]


def test_multirc_is_one_pair_an_answer():
    answers = [{"text": "rain", "idx": 8, "label": 1}, {"text": "", "idx": 9, "label": 0}]
    question = {"question": "What fell?", "idx": 3, "answers": answers}
    text = "<b>Sent 1: </b>Rain fell.<br><b>Sent 2: </b>It was cold.<br>"
    rows = cast("multirc", {"idx": 1, "passage": {"text": text, "questions": [question]}})
    assert [row.idx for row in rows] == [(1, 3, 8), (1, 3, 9)]
    assert [row.example.text_b for row in rows] == ["What fell? rain", "What fell? "]
    assert [row.example.label for row in rows] == ["1", "0"]
    assert rows[0].example.text.split() == ["Rain", "fell.", "It", "was", "cold."]


def record(answers: list[str] | None) -> dict:
    text = "Ann met Bob.\n@highlight\nBob was glad"
    spans = [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 24, "end": 26}]
    question = {"query": "@placeholder came", "idx": 7}
    if answers is not None:
        question["answers"] = [{"text": answer, "start": 0, "end": 0} for answer in answers]
    return {"idx": 2, "passage": {"text": text, "entities": spans}, "qas": [question]}


def test_record_is_one_pair_an_entity():
    rows = cast("record", record(["Bob"]))
    passage = "Ann met Bob. @highlight Bob was glad"
    assert texts(rows) == [(passage, "Ann came", "0"), (passage, "Bob came", "1")]
    assert [(row.candidate, row.idx, row.answers) for row in rows] == [
        ("Ann", (2, 7), ("Bob",)),
        ("Bob", (2, 7), ("Bob",)),
    ]
    assert [row.example.label for row in cast("record", record(None))] == [None, None]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=8))
def test_balance_keeps_the_right_ones_and_no_more_wrong_ones(questions):
    rows = [
        CastRow(Example(f"{number}", f"{place}", str(int(right))), (0, number), f"{place}")
        for number, entities in enumerate(questions)
        for place, right in enumerate(entities)
    ]
    kept = balanced(rows)
    assert kept == balanced(rows)
    assert kept == [row for row in rows if row in kept]
    for number, entities in enumerate(questions):
        counts = Counter(row.example.label for row in kept if row.idx == (0, number))
        right, wrong = sum(entities), len(entities) - sum(entities)
        assert counts["1"] == right
        assert counts["0"] == min(right, wrong)


WSC = {"text": "The cat saw Ann, so it ran.", "label": True, "idx": 0}
SPANS = {"span1_text": "The cat", "span1_index": 0, "span2_text": "it", "span2_index": 5}


def test_wsc_marks_its_spans():
    (row,) = cast("wsc", WSC | {"target": SPANS})
    assert texts([row]) == [("* The cat * saw Ann, so # it # ran.", "it means The cat", "true")]
    (row,) = cast("wsc", WSC | {"target": SPANS}, "released")
    assert texts([row]) == [(WSC["text"], "it means The cat", "true")]


@pytest.mark.parametrize(
    ("noun", "index", "marked"),
    [
        ("Ann", 3, "* Ann *, so"),
        ("Ann", 2, "* Ann *, so"),  # off by one
        ("Eve", 3, "* Ann *, so"),  # nowhere: what stands at the number
        ("ann", 3, "* Ann *, so"),
    ],
)
def test_wsc_spans_with_punctuation_and_wrong_numbers(noun, index, marked):
    (row,) = cast("wsc", WSC | {"target": SPANS | {"span1_text": noun, "span1_index": index}})
    assert marked in row.example.text


def test_wic_marks_its_word():
    row = {"word": "run", "sentence1": "He ran off.", "sentence2": "A long run", "idx": 3, "label": False}
    row |= {"start1": 3, "end1": 6, "start2": 7, "end2": 10}
    assert texts(cast("wic", row)) == [("He * ran * off.", "A long * run *", "false")]
    assert texts(cast("wic", row, "released")) == [("He ran off.", "A long run", "false")]


@pytest.mark.parametrize("name", ["copa", "race_h"])
def test_choices_go_by_the_cast(name):
    assert TASKS[name].task("improved").choices
    assert not TASKS[name].task("released").choices
    assert TASKS[name].task().outputs == len(TASKS[name].labels)
