"""Teachers from scikit-learn answer with the names of the student's labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from bort.agora.answers import answer_row
from bort.data.tables.objects import DataError
from bort.estimators.classifier import BortClassifier
from bort.estimators.teacher import teacher_of
from bort.tasks.kinds import KINDS

TEXTS = ["a cat", "a dog", "a cat and a dog", "a tree"] * 4
BOTH = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 4)
"""Whether a text has a cat, and whether it has a dog."""
FRAME = pd.DataFrame(BOTH, columns=["cat", "dog"])


def rows(teacher, y, kind="classification"):
    """A fitted teacher's answers to `TEXTS`, in the form that a student learns from."""
    student = BortClassifier()
    student._fit_targets(y)
    assert student._kind() == kind
    names = student._class_names()
    name, function = teacher_of(teacher, kind, names)
    assert name is None
    task = KINDS[kind].of_model(names, "accuracy", {})
    return np.array([answer_row(answer, task) for answer in function(TEXTS)])


def fitted(model, y):
    return make_pipeline(CountVectorizer(), model).fit(TEXTS, y)


@pytest.mark.parametrize("model", [LogisticRegression(C=100), LinearSVC()], ids=["shares", "labels"])
@pytest.mark.parametrize("classes", [("cat", "none"), (True, False), (1.0, 2.0), (3, 4), ("1.0", "2")], ids=str)
def test_a_teacher_may_have_labels_of_any_type(model, classes):
    y = np.where(BOTH[:, 0] > 0, *(np.array(classes)[:, None]))
    student = BortClassifier()
    student._fit_targets(y)
    place = student.classes_.tolist().index(classes[0])
    assert (rows(fitted(model, y), y).argmax(1) == np.where(BOTH[:, 0] > 0, place, 1 - place)).all()


@pytest.mark.parametrize("y", [BOTH, FRAME], ids=["matrix", "frame"])
@pytest.mark.parametrize(
    "model",
    [
        OneVsRestClassifier(LogisticRegression(C=100)),
        OneVsRestClassifier(LinearSVC()),
        RandomForestClassifier(20, random_state=0),
        ClassifierChain(LogisticRegression(C=100)),
    ],
    ids=["shares", "rows of 0 and 1", "two shares a label", "a chain"],
)
def test_a_teacher_of_several_labels_is_read_by_column(model, y):
    odds = rows(fitted(model, np.asarray(y)), y, "multilabel")
    np.testing.assert_array_equal(odds > 0, BOTH)


def test_a_label_that_a_forest_has_never_seen_has_no_probability():
    never = fitted(RandomForestClassifier(5, random_state=0), BOTH * [1, 0])
    assert (rows(never, BOTH, "multilabel")[:, 1] == -np.inf).all()


def test_a_teacher_that_names_its_columns_is_read_by_name():
    class Named:
        classes_ = np.array(["dog", "cat"])

        def predict_proba(self, texts):
            return BOTH[:, ::-1] * 0.8 + 0.1

        def predict(self, texts):
            return BOTH[:, ::-1]

    np.testing.assert_array_equal(rows(Named(), FRAME, "multilabel") > 0, BOTH)
    labels_alone = type("Rule", (), {"classes_": Named.classes_, "predict": Named.predict})()
    np.testing.assert_array_equal(rows(labels_alone, FRAME, "multilabel") > 0, BOTH)


def test_a_teacher_of_numbers_keeps_its_values():
    teacher = fitted(LinearRegression(), np.arange(16.0))
    _, function = teacher_of(teacher, "regression", [])
    assert function(TEXTS) == teacher.predict(TEXTS).tolist()


def test_a_teacher_of_other_columns_is_refused():
    y = ["cat", "dog"] * 8
    forest = RandomForestClassifier(5, random_state=0)
    for model in (forest, LinearSVC()):
        wide = model if model is forest else OneVsRestClassifier(model)
        with pytest.raises(DataError, match="the teacher must give one label a text"):
            rows(fitted(wide, BOTH), y)
        with pytest.raises(DataError, match="must give 2 columns"):
            rows(fitted(wide, np.hstack([BOTH, BOTH[:, :1]])), BOTH, "multilabel")
