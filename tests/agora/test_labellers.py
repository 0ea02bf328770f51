"""Who labels."""

from __future__ import annotations

import numpy as np
import pytest

from bort.agora.label_map import LabelMap
from bort.agora.labellers import ClassifierTeacher, FunctionTeacher, HeadTeacher, judged
from bort.agora.nearby import Embedding
from bort.agora.teachers import fitted_how
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning import linear_head
from bort.predict.sentence_folder import write_sentence_files
from bort.tasks.classification import Classification
from bort.tasks.kinds import task_of
from bort.tasks.regression import Regression

TASK = Classification(("cat", "other"), "accuracy")
LABELS = ("cat", "other", 'a, "b"')  # of the classifier of the fixture
VALUES = Regression((), "pearson")
TEXTS = [Example("a cat"), Example("a dog")]


def function(*answers, task=TASK):
    return FunctionTeacher(lambda texts: list(answers), task, "given")


def test_a_function_may_answer_labels_probabilities_or_nothing():
    says = function("cat", {"cat": 1, "other": 3})(TEXTS)
    np.testing.assert_allclose(np.exp(says), [[1, 0], [0.25, 0.75]])
    says = function(None, "other")(TEXTS)
    assert np.isnan(says[0]).all()
    assert TASK.decide(says)[1] == 1
    np.testing.assert_allclose(function(1, "2.5", task=VALUES)(TEXTS), [[1], [2.5]])


@pytest.mark.parametrize(
    "answer",
    [
        "dog",
        {"dog": 1.0},
        {"cat": -1, "other": 2},
        {"cat": 0},
        {"cat": float("inf")},
        {"cat": float("nan"), "other": 1},
        {"cat": 10**400},
        {"cat": True},
        {},
        3,
        ["cat"],
        {"cat": "much"},
    ],
)
def test_a_wrong_answer_is_told(answer):
    with pytest.raises(BortError, match="the teacher given must answer with cat, other or probabilities"):
        function("cat", answer)(TEXTS)


@pytest.mark.parametrize("answer", ["much", float("nan"), "inf", 10**400, True, ["1"], {"cat": 1}])
def test_a_wrong_value_is_told(answer):
    with pytest.raises(BortError, match="the teacher given must answer with a finite number"):
        function(1.0, answer, task=VALUES)(TEXTS)


def test_a_function_must_answer_each():
    with pytest.raises(BortError, match="must answer each of 2 texts"):
        function("cat")(TEXTS)


def test_a_classifier_answers_in_the_order_of_the_task(classifier):
    straight, other = (
        ClassifierTeacher(classifier, Classification(names, "accuracy"))(TEXTS) for names in (LABELS, LABELS[::-1])
    )
    np.testing.assert_allclose(straight, other[:, ::-1])
    np.testing.assert_allclose(np.exp(straight).sum(-1), 1)


def test_a_classifier_of_other_labels_is_refused(classifier):
    task = Classification(("bird", *LABELS), "accuracy")
    with pytest.raises(BortError, match="value 'bird': the teacher must know each label"):
        ClassifierTeacher(classifier, task)
    with pytest.raises(BortError, match="must be made for regression"):
        ClassifierTeacher(classifier, VALUES)


def test_labels_of_another_classifier_are_mapped(classifier):
    plain = ClassifierTeacher(classifier, Classification(LABELS, "accuracy"))(TEXTS)
    yes_or_no = Classification(("no", "yes"), "accuracy")
    two = LabelMap.of(["cat=yes", "other=no", f"{LABELS[2]}=no"])
    says = np.exp(ClassifierTeacher(classifier, yes_or_no, two)(TEXTS))
    np.testing.assert_allclose(says[:, 1], np.exp(plain)[:, 0])
    without = np.exp(ClassifierTeacher(classifier, yes_or_no, LabelMap.of(["cat=yes", "other=no"]))(TEXTS))
    np.testing.assert_allclose(without[:, 1], np.exp(plain)[:, 0] / np.exp(plain)[:, :2].sum(-1))


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (["cat"], "value 'cat': must be THEIRS=OURS"),
        (["=yes"], "must be THEIRS=OURS"),
        (["cat=yes", "cat=no"], "value 'cat': names a label of the teacher twice"),
        (["cats=yes"], "value 'cats': is no label of the teacher; did you mean 'cat'"),
        (["cat=yess"], "value 'yess': is no label of the data; did you mean 'yes'"),
        (["cat=yes"], "value 'no': the teacher must know each label of the data.*--teacher-labels"),
    ],
)
def test_a_wrong_map_of_labels_is_told(classifier, given, rule):
    with pytest.raises(BortError, match=rule):
        ClassifierTeacher(classifier, Classification(("no", "yes"), "accuracy"), LabelMap.of(given))


@pytest.fixture(scope="module")
def embedding():
    return Embedding("bort-nano")


TOPICS = {"film": ("a movie", "the film", "an actor", "a comedy"), "food": ("some bread", "a soup", "the meat", "rice")}
LABELLED = [Example(text, None, label) for label, texts in TOPICS.items() for text in texts]


def test_a_head_learns_from_few(embedding):
    task = task_of(LABELLED)
    teacher = HeadTeacher(embedding, task, LABELLED[:3] + LABELLED[4:7])
    assert judged(task, teacher(LABELLED), task.targets(LABELLED)) == 1.0


def test_a_head_does_not_know_a_class_without_an_example(embedding):
    task = Classification(("film", "food", "war"), "accuracy")
    says = HeadTeacher(embedding, task, LABELLED)(LABELLED)
    assert np.isneginf(says[:, 2]).all()


def test_a_head_says_out_of_fold_what_it_was_fitted_to(embedding):
    """Labels by chance are learned by heart, and out of fold they are not known."""
    texts = [Example(f"{e.text} {n}", None, str(n % 2)) for n in range(6) for e in LABELLED]
    task = task_of(texts)
    teacher, truth = HeadTeacher(embedding, task, texts), task.targets(texts)
    unseen = [Example("a new film")]
    np.testing.assert_array_equal(teacher.out_of_fold(unseen), teacher(unseen))
    assert not np.allclose(teacher.out_of_fold(texts), teacher(texts))
    assert judged(task, teacher.out_of_fold(texts), truth) <= judged(task, teacher(texts), truth)


def test_of_very_many_labels_a_head_learns_a_sample(embedding, monkeypatch):
    monkeypatch.setattr(linear_head, "MOST_FITTED", 6)
    task = task_of(LABELLED)
    teacher = HeadTeacher(embedding, task, LABELLED)
    assert len(teacher._head.folds) == 6
    says, own, plain = teacher.out_of_fold(LABELLED), teacher._head.out_of_fold, teacher(LABELLED)
    for place, row in enumerate(says):
        learned = place in linear_head.fitted_places(8)
        np.testing.assert_array_equal(row, own[linear_head.fitted_places(8) == place][0] if learned else plain[place])


def test_a_head_for_values(embedding):
    rows = [Example(e.text, None, 4.5 if e.label == "food" else 0.5) for e in LABELLED]
    task = task_of(rows)
    teacher = HeadTeacher(embedding, task, rows)
    assert teacher(rows).shape == (8, 1)
    assert judged(task, teacher(rows), task.targets(rows)) > 0.9


def test_copies_of_a_text_are_in_the_same_fold(embedding):
    """In another fold, each would tell the label of the other."""
    rows = [each for e in LABELLED for each in (e, Example(f" {e.text.upper()}", None, e.label))]
    folds = HeadTeacher(embedding, task_of(rows), rows)._head.folds
    np.testing.assert_array_equal(folds[::2], folds[1::2])


def test_a_sentence_encoder_gets_a_head_by_its_hub_name_too(monkeypatch, world, tmp_path):
    write_sentence_files(tmp_path, 16, 32)
    folders = {"acme/sentences": tmp_path, "acme/plain": tmp_path / "1_Pooling"}
    found = lambda name, file, **_: str(folders[name] / file) if (folders[name] / file).is_file() else None  # noqa: E731
    monkeypatch.setattr("transformers.utils.cached_file", found)
    hows = [fitted_how(world.finetuning(tmp_path, teacher=name)) for name in (*folders, world.encoder)]
    assert hows == ["head", "full", "full"]
