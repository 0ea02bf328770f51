"""Agora with several labels a text: what teachers answer, whose labels are learned, and a whole run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.answers import WrongAnswerError, answer_row, parsed_line
from bort.agora.general_pool import GeneralPool
from bort.agora.journal import RunJournal
from bort.agora.labellers import ClassifierTeacher, FunctionTeacher, teacher_scores
from bort.agora.llm.client import Reply
from bort.agora.llm.prompt import Instructions, LabelPrompt, chosen_examples
from bort.agora.llm.reading import read_answer
from bort.agora.llm.writing import WritingPrompt
from bort.agora.pooled_labels import Weights, pooled, weigh
from bort.agora.report import agora_report
from bort.agora.run import finetune
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.predictor import Predictor
from bort.tasks.multilabel import MultiLabel

TASK = MultiLabel(("a", "b", "c"), "f1_micro")


@pytest.mark.parametrize(
    ("answer", "probabilities"),
    [
        (["a", "c"], [1, 0, 1]),
        ([], [0, 0, 0]),
        ({"b", "a"}, [1, 1, 0]),
        ("b", [0, 1, 0]),
        ({"a": 0.25, "c": 1}, [0.25, 0, 1]),
        ({}, [0, 0, 0]),
    ],
)
def test_what_a_teacher_may_answer(answer, probabilities):
    assert TASK.activate(np.array([answer_row(answer, TASK)]))[0].tolist() == pytest.approx(probabilities)


@pytest.mark.parametrize("answer", [["x"], {"a": 1.5}, {"x": 0.5}, {"a": "1"}, 3, [["a"]]])
def test_what_is_no_answer(answer):
    with pytest.raises(WrongAnswerError, match="a list of some of a, b, c"):
        answer_row(answer, TASK)


@pytest.mark.parametrize("answer", [None, " "])
def test_who_does_not_know(answer):
    assert all(map(math.isnan, answer_row(answer, TASK)))


def test_lines_of_a_command():
    assert parsed_line('["a", "c"]\n', TASK) == ["a", "c"]
    assert parsed_line('{"a": 0.5}', TASK) == {"a": 0.5}
    assert parsed_line("b", TASK) == "b"
    with pytest.raises(WrongAnswerError, match="valid JSON"):
        parsed_line('["a"', TASK)


def test_an_llm_is_asked_for_all_labels():
    examples = [Example("one", None, ("a", "b")), Example("two", None, ()), Example("three", None, ("b", "c"))]
    assert chosen_examples(examples, TASK, 16) == [examples[0], examples[2]]
    prompt = LabelPrompt(TASK, Instructions(labels={"a": "an apple"}), examples)
    assert prompt.schema["properties"] == {
        "labels": {"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}}
    }
    head = prompt.head
    assert "all labels that fit, or none" in head[0]["content"]
    assert "- a: an apple" in head[0]["content"]
    assert [turn["content"] for turn in head if turn["role"] == "assistant"] == [
        '{"labels": ["a", "b"]}', '{"labels": []}', '{"labels": ["b", "c"]}',
    ]  # fmt: skip
    assert "Right label: a; b" in WritingPrompt(Instructions(), 2).messages(examples[0], "(none)")[-1]["content"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"labels": ["a", "C "]}', {"answer": ["a", "c"]}),
        ('{"labels": []}', {"answer": []}),
        ('["b"]', {"answer": ["b"]}),
        ('```json\n{"labels": "b"}\n```', {"answer": ["b"]}),
        ('{"labels": ["x"]}', {"abstained": "no label"}),
        ("none of them", {"abstained": "no label"}),
    ],
)
def test_an_llms_answer(text, kept):
    assert read_answer(Reply(text), TASK) == kept


@given(st.integers(0, 2**32 - 1), st.floats(-1, 5), st.floats(-1, 5))
def test_the_pool_is_no_worse_than_either(seed, teacher, student):
    rng = np.random.default_rng(seed)
    truth = (rng.random((40, 3)) < 0.4).astype(np.float32)
    one, other = (rng.normal(size=truth.shape) + sure * (2 * truth - 1) for sure in (teacher, student))
    weights = weigh(TASK, one, other, truth)

    def penalised(weights: Weights) -> float:
        return float(TASK.losses(pooled(TASK, weights, one, other), truth).mean()) + 1e-3 * sum(w**2 for w in weights)

    for alone in (Weights(1, 0.0001), Weights(0, 1), Weights(0.5, 0.5)):
        assert penalised(weights) <= penalised(alone) + 1e-3


def test_a_silent_teacher_is_wrong():
    truth = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    silent = np.full((2, 3), np.nan)
    assert teacher_scores(TASK, silent, truth, resamples=0)["exact_match"].value == 0


def test_a_model_of_several_labels_teaches(multilabeller, sentences):
    task = MultiLabel(("walking", "a, b; c"), "f1_micro")
    with Predictor(multilabeller) as predictor:
        wanted = predictor.predict_proba(sentences[:9])[:, [predictor.task.names.index(n) for n in task.names]]
    teacher = ClassifierTeacher(multilabeller, task)
    np.testing.assert_allclose(task.activate(teacher([Example(s) for s in sentences[:9]])), wanted, atol=1e-6)


def test_a_model_of_one_label_does_not_teach(classifier):
    with pytest.raises(BortError, match="must be made for multilabel"):
        ClassifierTeacher(classifier, MultiLabel(("cat", "other"), "f1_micro"))


def knows(texts):
    """A teacher that knows what the task is about, not always for certain."""
    words = {"apples": "apples", "cat": "cat", "walking": "walked"}
    return [{name: 0.9 if word in text else 0.05 for name, word in words.items()} for text in texts]


@pytest.fixture
def arguments(world, tmp_path):
    data = {"train": world.multilabel, "dev": None, "test": world.multilabel_test, "max_train_rows": 60}
    settings = {"transforms": ["swap", "delete"], "min_cosine": -1.0, "keep_better": False, "max_epochs": 3}
    return world.finetuning(tmp_path, learning_rates=[5e-3, 2e-3], **data, **settings)


@pytest.fixture
def pool(tmp_path, sentences):
    file = tmp_path / "pool.txt"
    file.write_text("\n".join(f"{text} Again." for text in sentences[:40]), "utf-8")
    return str(file)


def test_a_whole_run(arguments, pool, tmp_path, assert_same_weights, page_of_files):
    arguments = replace(arguments, unlabelled=pool, points_per_mistake=1)
    metrics = finetune(arguments, teacher=knows)
    out = Path(arguments.out)
    assert metrics == json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["teacher"]["test"]["f1_micro"] > 0.99
    assert not metrics["teacher"]["weak"]
    first = metrics["rounds"][0]
    assert first["kept"] > 0
    assert sum(first["labels"].values()) > 0
    assert {*metrics["train_labels"]} == {*metrics["labels"]}
    page = (out / "report.html").read_text("utf-8")
    for said in ("From mistakes to new texts: round 1", "Label by label", "threshold"):
        assert said in page
    assert page == page_of_files(agora_report, arguments.out)
    assert "Answers with all that fit, or none, of: apples, cat, walking." in (out / "README.md").read_text("utf-8")
    again = replace(arguments, out=str(tmp_path / "again"))
    finetune(again, teacher=knows)
    assert_same_weights(out, again.out)


def test_hard_labels_are_the_teachers_decisions(arguments, pool, monkeypatch):
    grown, keep = [], RunJournal.keep_growth

    def noted(journal, number, growth):
        grown.append(growth)
        keep(journal, number, growth)

    monkeypatch.setattr(RunJournal, "keep_growth", noted)
    finetune(replace(arguments, unlabelled=pool, labels="hard", labelled_by="teacher"), teacher=knows)
    points = [point for growth in grown for point in growth.points]
    assert points
    for point in points:
        [row] = knows([point.x.text])
        assert point.y == tuple(float(row[name] > 0.5) for name in ("apples", "cat", "walking"))


def test_a_teacher_that_knows_nothing_is_stopped(arguments):
    metrics = finetune(arguments, teacher=lambda texts: [["cat"]] * len(texts))
    assert metrics["teacher"]["weak"]
    assert not metrics["teacher"]["taught"]
    assert len(metrics["rounds"]) == 1


def test_a_general_pool_seeks_near_each_label():
    """A mistake with two labels is one of both, and texts without a label are a class, too."""
    train = [Example("one", None, ("a", "b")), Example("two", None, ()), Example("three", None, ("b",))]

    class NoIndex:
        def __len__(self):
            return 0

    pool = GeneralPool(
        NoIndex(), lambda texts: np.eye(3, dtype=np.float32)[: len(texts)], train,
        per_mistake=1, per_class=1, distinct=0.9,
    )  # fmt: skip
    assert {*pool.centroids} == {"a", "b", ""}
    np.testing.assert_allclose(pool.centroids["b"], [0.5**0.5, 0, 0.5**0.5], atol=1e-6)


def test_a_function_is_told_what_it_may_answer():
    teacher = FunctionTeacher(lambda texts: [["a", "x"]] * len(texts), TASK, "given")
    with pytest.raises(BortError, match="given must answer with a list of some of a, b, c"):
        teacher([Example("t")])
