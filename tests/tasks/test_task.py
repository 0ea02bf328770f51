"""What is asked of a model, read off its examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.kinds import task_of
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression


def labelled(*labels) -> list[Example]:
    return [Example("x", label=label, source="a.csv", line=line) for line, label in enumerate(labels, start=2)]


@pytest.mark.parametrize("kind", ["auto", "regression"])
def test_a_regression_needs_two_values(kind):
    with pytest.raises(BortError, match=r"a\.csv: a regression needs at least two distinct values; there is only 3\.5"):
        task_of(labelled("3.5", "3.50", 3.5), kind=kind)


def test_labels_of_another_program_are_known_by_their_number():
    task = task_of(labelled("0", "1"))
    assert task.targets(labelled("1.0", "0.0", 1.0)).tolist() == [1, 0, 1]
    assert task_of(labelled("0.0", "1.0")).targets(labelled("1", "0")).tolist() == [1, 0]
    sections = task_of(labelled("1.1", "1.2"), kind="classification")
    with pytest.raises(BortError, match=r"the label must be one of '1\.1', '1\.2'"):
        sections.targets(labelled("1.10"))


@pytest.mark.parametrize(
    ("labels", "settings", "task"),
    [
        (["b", "a", "b"], {}, Classification(("a", "b"), "accuracy")),
        (["10", "9", "2"], {}, Classification(("2", "9", "10"), "accuracy")),
        (["1.5", "2"], {}, Regression((), "pearson")),
        ([1.5, 2.0], {"metric": "spearman"}, Regression((), "spearman")),
        (["1", "2"], {"kind": "regression"}, Regression((), "pearson")),
        (["1.5", "2"], {"kind": "classification"}, Classification(("1.5", "2"), "accuracy")),
        (["1.5", 2.5], {"names": ["1.5", "2.5", "3.5"]}, Classification(("1.5", "2.5", "3.5"), "accuracy")),
        ([1.0, 0.0], {}, Classification(("0", "1"), "accuracy")),
        ([1.0, 0.0], {"kind": "regression"}, Regression((), "pearson")),
        (["b", "a"], {"metric": "f1_positive"}, Classification(("a", "b"), "f1_positive")),
        (["a", "b"], {"metric": "matthews"}, Classification(("a", "b"), "matthews")),
    ],
)
def test_read_off_the_labels(labels, settings, task):
    assert task_of(labelled(*labels), **settings) == task
    assert task.outputs == (len(task.names) or 1)


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([], {}, "at least one labelled example"),
        (["a", "a"], {}, "two distinct labels; there is only 'a'"),
        (["a", None], {}, r"a\.csv:3: .*must not be missing"),
        (["1", "b"], {"kind": "regression"}, r"a\.csv:3: .*'b': a label must be a finite number"),
        (["1.5", "nan"], {"kind": "regression"}, r"a\.csv:3: .*'nan'"),
        (["a", "b"], {"metric": "pearson"}, "classification task must be one of accuracy, f1, matthews$"),
        ([1.5, 2.5], {"metric": "accuracy"}, "regression task must be one of pearson, spearman$"),
        ([1.5, 2.5], {"metric": "rmse"}, "'rmse': .*must be one of pearson, spearman$"),
        (["a", "b"], {"metric": "nosuch"}, "'nosuch'"),
        (["a", "b", "c"], {"metric": "f1_positive"}, "f1_positive.*needs two labels"),
        ([1.5, 2.5], {"metric": "f1_positive"}, "f1_positive"),
        (["a", "b"], {"names": ["a", "a", "b"]}, r"--classes: value \['a', 'a', 'b'\]: must name .* each once"),
        (["a", "a"], {"names": ["a"]}, "--classes: .*at least two labels"),
        ([1.5, 2.5], {"names": ["1.5", "2.5"], "kind": "regression"}, "--classes: .*a regression has no classes"),
    ],
)
def test_refused(labels, settings, message):
    with pytest.raises(BortError, match=message):
        task_of(labelled(*labels), **settings)


def test_targets_are_the_models_outputs():
    task = task_of(labelled("no", "yes", "maybe"))
    targets = task.targets(labelled("yes", "maybe", "no", "yes"))
    assert targets.dtype == np.int64
    assert [task.names[target] for target in targets] == ["yes", "maybe", "no", "yes"]
    values = task_of(labelled(1.5, "-2e3")).targets(labelled("0.25", -3.0))
    assert values.dtype == np.float32
    assert values.tolist() == [0.25, -3.0]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("yess", r"a\.csv:3: .*'yess': the label must be one of 'no', 'yes'; did you mean 'yes'\?"),
        (None, r"a\.csv:3: .*must not be missing"),
        (1.5, r"a\.csv:3: .*1\.5"),
    ],
)
def test_unknown_label(label, message):
    with pytest.raises(BortError, match=message):
        Classification(("no", "yes"), "accuracy").targets(labelled("no", label))


@pytest.mark.parametrize("label", ["1e39", -1e300, "3.5e38"])
def test_a_number_beyond_single_precision(label):
    """It would become an infinity, and the loss with it."""
    with pytest.raises(BortError, match=r"a\.csv:3: .*a label must be a number between"):
        Regression((), "pearson").targets(labelled(1.5, label))
    assert np.isfinite(Regression((), "pearson").targets(labelled("3.4e38"))).all()


def test_decisions():
    logits = np.array([[0.1, 0.7, 0.2], [3.0, -1.0, 2.9]], dtype=np.float32)
    assert Classification(("a", "b", "c"), "accuracy").decide(logits).tolist() == [1, 0]
    values = Regression((), "pearson").decide(logits[:, :1])
    assert values.shape == (2,)
    assert values.tolist() == pytest.approx([0.1, 3.0])


def test_scores_of_classes():
    task = Classification(("a", "b"), "accuracy")
    logits = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    truth = np.array([0, 1, 0, 0, 1])
    scores = task.score(logits, truth, resamples=50)
    assert set(scores) == {"accuracy", "f1", "matthews", "f1_positive"}
    assert scores["accuracy"].value == 0.8
    assert scores["f1"].value == pytest.approx(metrics.f1_score(truth, [0, 1, 1, 0, 1], average="macro"))
    assert scores["accuracy"].low <= 0.8 <= scores["accuracy"].high
    unsure = task.score(logits, truth, resamples=0)["accuracy"]
    assert (unsure.low, unsure.high) == (0.8, 0.8)


def test_scores_of_values():
    task = Regression((), "pearson")
    scores = task.score(np.array([[1.0], [2.0], [4.0]], dtype=np.float32), np.array([1.0, 2.0, 3.0], dtype=np.float32))
    assert scores["spearman"].value == 1
    assert scores["rmse"].value == pytest.approx(math.sqrt(1 / 3))
    with pytest.raises(BortError, match="diverged"):
        task.score(np.array([[math.nan]], dtype=np.float32), np.array([1.0], dtype=np.float32))


def test_values_that_are_exact_are_not_wrong():
    answers, truth = np.array([[1.0], [2.5], [7.0]], np.float32), np.array([1.0, 3.0, 3.0], np.float32)
    assert [each["row"] for each in Regression((), "pearson").wrong(answers, truth)] == [2, 1]


@pytest.mark.parametrize(
    ("task", "targets"),
    [
        (Classification(("a", "b", "c"), "accuracy"), np.array([2, 0, 1])),
        (MultiLabel(("a", "b"), "f1_micro"), np.array([[0, 1], [1, 1], [0, 0]], np.float32)),
        (Regression((), "pearson"), np.array([1.5, -2.0, 3.0], np.float32)),
    ],
)
def test_one_who_knows_is_never_wrong(task, targets):
    says = task.certain(targets)
    assert says.shape == (3, task.outputs)
    assert task.decide(says).tolist() == targets.tolist()
    assert task.losses(says, targets).max() < 1e-3
    np.testing.assert_allclose(task.mean([says, says]), task.mean([says]))
