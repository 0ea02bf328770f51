"""`BortClassifier` of texts with several labels: a matrix of 0 and 1 in, one out."""

from __future__ import annotations

import json
import shutil

import joblib
import numpy as np
import pandas
import pyarrow
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from bort.data.tables.examples import read_examples
from bort.data.tables.objects import DataError
from bort.errors import BortError
from bort.estimators.classifier import BortClassifier
from bort.estimators.indicators import indicators_of
from bort.predict.predictor import Predictor

NAMES = ["walking", "cat", "apples"]


@pytest.fixture(scope="module")
def data(world):
    examples = read_examples(world.multilabel)
    y = np.array([[name in example.label for name in NAMES] for example in examples], dtype=int)
    return [example.text for example in examples], y


@pytest.fixture(scope="module")
def fitted(world, data):
    texts, y = data
    return BortClassifier(model=world.encoder, max_length=32).fit(texts, y)


def test_a_matrix_gives_a_matrix(fitted, data):
    texts, y = data
    given, probabilities, margins = (
        ask(texts) for ask in (fitted.predict, fitted.predict_proba, fitted.decision_function)
    )
    assert given.shape == probabilities.shape == margins.shape == y.shape
    assert given.dtype.kind == "i"
    assert (given == (margins > 0)).all()
    assert (np.diff(given[np.argsort(probabilities[:, 0]), 0]) >= 0).all(), "one threshold a label"
    assert f1_score(y, given, average="micro", zero_division=0) > f1_score(y, np.ones_like(y), average="micro")
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.score(texts, y) == (given == y).all(1).mean()


def test_the_report_knows_each_label_and_what_was_wrong(world, data):
    texts, y = data
    noisy = np.where(np.arange(len(y))[:, None] % 5 == 0, 1 - y, y)
    report = BortClassifier(model=world.encoder, max_length=32).fit(texts, noisy).report_
    assert report.metric == "f1_micro"
    assert report.errors
    assert [each.label for each in report.labels] == ["0", "1", "2"]
    assert all(isinstance(error.answer, tuple) and error.answer != error.label for error in report.errors)
    assert "labelled" in str(report)
    report.to_dict()


def test_a_data_frame_names_the_labels(world, data, tmp_path):
    texts, y = data
    frame = pandas.DataFrame(y, columns=NAMES)
    classifier = BortClassifier(model=world.encoder, max_length=32).fit(texts, frame)
    assert classifier.classes_.tolist() == NAMES
    classifier.save(tmp_path / "model")
    assert Predictor(str(tmp_path / "model")).task.names == tuple(NAMES)
    loaded = BortClassifier.load(tmp_path / "model")
    assert loaded.classes_.tolist() == NAMES
    assert (loaded.predict(texts) == classifier.predict(texts)).all()
    joblib.dump(classifier, tmp_path / "file")
    assert (joblib.load(tmp_path / "file").predict(texts) == classifier.predict(texts)).all()


@pytest.mark.parametrize("form", [csr_matrix, np.ndarray.tolist, list, lambda y: y.astype(bool), lambda y: y * 1.0])
def test_the_forms_of_a_matrix(form, world, data, fitted):
    texts, y = data
    other = BortClassifier(model=world.encoder, max_length=32).fit(texts, form(y))
    np.testing.assert_array_equal(other.predict_proba(texts), fitted.predict_proba(texts))


def test_inside_scikit_learn(world, data):
    texts, y = data
    pipeline = make_pipeline(BortClassifier(model=world.encoder, max_length=32))
    scores = cross_val_score(pipeline, texts, y, cv=2, scoring="f1_micro")
    assert (scores > 0).all()


def test_a_teacher_gives_probabilities_of_each_label(world, data):
    """Any classifier of such a matrix teaches, here one that knows the words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, y = data
    teacher = make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression())).fit(texts, y)
    settings = {"weak_teacher": "use", "keep_better": False, "transforms": ["swap"], "min_cosine": -1.0}
    classifier = BortClassifier(
        world.encoder, "agora", max_length=32, max_steps=10, learning_rates=[5e-3, 1e-3], settings=settings
    )
    classifier.fit(texts, y, X_dev=texts[:60], y_dev=y[:60], unlabelled=texts[60:90], teacher=teacher)
    assert classifier.predict(texts).shape == y.shape


def test_a_loaded_model_heeds_its_thresholds(multilabeller, sentences):
    loaded = BortClassifier.load(multilabeller)
    with Predictor(multilabeller) as predictor:
        answers, least = predictor.predict(sentences), predictor.task.threshold_by_name
    given = loaded.predict(sentences)
    assert [{*loaded.classes_[row > 0]} for row in given] == [{*answer.label} for answer in answers]
    np.testing.assert_array_equal(given, loaded.predict_proba(sentences) > [least[name] for name in loaded.classes_])


def test_at_a_threshold_it_answers_as_a_predictor(multilabeller, sentences, tmp_path):
    folder, texts = shutil.copytree(multilabeller, tmp_path / "model"), sentences[:20]
    with Predictor(multilabeller) as predictor:
        names, probabilities = predictor.task.names, predictor.predict_proba(texts)
    config = json.loads((folder / "config.json").read_text())
    for row in probabilities.astype(float).tolist():
        config["bort_thresholds"] = dict(zip(names, row, strict=True))
        (folder / "config.json").write_text(json.dumps(config))
        loaded = BortClassifier.load(folder)
        with Predictor(str(folder)) as predictor:
            answers = predictor.predict(texts)
        for given in (loaded.predict(texts) > 0, loaded.decision_function(texts) > 0):
            assert [{*loaded.classes_[each]} for each in given] == [{*answer.label} for answer in answers]


def test_a_column_of_lists_is_a_matrix(data):
    _, y = data
    np.testing.assert_array_equal(indicators_of(pandas.Series(y.tolist()), "y"), y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([["a", "b"], ["a"], ["b"]], "matrix of 0 and 1"),
        ([["a", "b"], ["a", "c"], ["b", "c"]], "matrix of 0 and 1"),
        (np.array([[0, 1], [2, 0], [1, 1]]), "matrix of 0 and 1"),
        (np.array([[0, 1], [1, 0]]), "3 texts and there are 2 labels"),
        (pandas.DataFrame([[0, 1], [1, 0], [1, 1]], columns=["a", "a"]), "y: .*names of columns must differ"),
        (pandas.DataFrame([[0, 1], [1, 0], [1, 1]], columns=["a", "b "]), "y: .*no space around them"),
    ],
)
def test_refused_where_it_is_unclear(world, y, message):
    with pytest.raises(ValueError, match=message):
        BortClassifier(model=world.encoder).fit(["a", "b", "c"], y)


@pytest.mark.parametrize(
    "table",
    [pandas.DataFrame, pyarrow.table, lambda columns: pytest.importorskip("polars").DataFrame(columns)],
    ids=["pandas", "pyarrow", "polars"],
)
def test_columns_are_known_by_their_names(world, data, table):
    texts, y = data
    columns = dict(zip(NAMES, y.T.tolist(), strict=True))
    turned = {name: columns[name] for name in reversed(NAMES)}
    classifier = BortClassifier(model=world.encoder, max_length=32)
    scores = []
    for dev in (columns, turned):
        classifier.fit(texts, table(columns), X_dev=texts[:60], y_dev=table({n: dev[n][:60] for n in dev}))
        assert classifier.classes_.tolist() == NAMES
        scores.append(classifier.report_.scores)
    assert scores[0] == scores[1]
    others = table({name.replace("cat", "dog"): column for name, column in columns.items()})
    with pytest.raises(DataError, match=r"y_dev: .*must have the columns that the fit had: walking, cat, apples"):
        classifier.fit(texts, table(columns), X_dev=texts, y_dev=others)


def test_other_columns_than_in_fit(world, data, fitted, tmp_path):
    texts, y = data
    with pytest.raises(BortError, match="3 columns, as in fit"):
        fitted.export(tmp_path / "out", texts, y[:, :2])
    one = MultiLabelBinarizer().fit_transform([{"a"}, set()])
    assert one.shape == (2, 1)
    with pytest.warns(match="column-vector"), pytest.raises(ValueError, match="too few"):
        BortClassifier(model=world.encoder).fit(["a", "b"], one)
