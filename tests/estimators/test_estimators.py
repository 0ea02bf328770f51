import copy
import json
import os
import random
import re
import shutil
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted
from transformers import pipeline

import bort
from bort.data.tables.examples import read_examples
from bort.data.tables.objects import DataError
from bort.errors import BortError
from bort.estimators.base import labels_of
from bort.estimators.model_files import ModelFiles


@pytest.fixture(scope="session")
def data(world):
    """Texts and labels of a part."""

    def read(part):
        examples = read_examples(getattr(world, part))
        texts = [e.text if e.text_b is None else (e.text, e.text_b) for e in examples]
        return texts, [e.label for e in examples]

    return read


@pytest.fixture
def quick(world):
    """Settings of a fit of seconds."""
    settings = {"learning_rates": 3e-2, "batch_sizes": 8, "max_steps": 4, "max_length": 32}
    return {"model": world.encoder, "method": "plain", **settings}


@pytest.fixture(scope="module")
def fitted(world, data):
    (X, y), (X_dev, y_dev) = data("train"), data("dev")
    settings = {"learning_rates": [1e-2, 3e-2], "batch_sizes": [8], "max_epochs": 10, "max_length": 32}
    settings["settings"] = {"keep_better": False, "refit": False}
    return bort.BortClassifier(world.encoder, "plain", **settings).fit(X, y, X_dev=X_dev, y_dev=y_dev)


def test_it_learns_and_answers_as_scikit_learn_does(fitted, data):
    X, y = data("test")
    assert fitted.classes_.tolist() == ["cat", "other"]
    assert fitted.score(X, y) > 0.9
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(X)).all()
    assert ((fitted.decision_function(X) > 0) == (fitted.predict(X) == "other")).all()
    assert fitted.predict([]).shape == (0,)


def test_the_report_tells_scores_labels_and_errors(fitted, data):
    report = fitted.report_
    X, y = data("dev")
    score = report.scores["dev"]["accuracy"]
    assert score.value == pytest.approx(fitted.score(X, y))
    assert score.low <= score.value <= score.high
    assert {each.label: each.examples for each in report.labels} == {
        label: y.count(label) for label in ("cat", "other")
    }
    wrong = [text for text, answer, label in zip(X, fitted.predict(X), y, strict=True) if answer != label]
    assert sorted(error.text for error in report.errors) == sorted(wrong)
    assert "development accuracy" in str(report)
    assert "recall" in report._repr_html_()
    assert json.loads(json.dumps(report.to_dict()))["metric"] == "accuracy"


def test_a_linear_head_is_told_of_by_texts_that_it_has_not_seen(world, data):
    X, y = data("train")
    classifier = bort.BortClassifier(world.encoder).fit(X, y)
    report = classifier.report_
    assert len(report.errors) == round(report.rows["dev"] * (1 - report.scores["dev"]["accuracy"].value))
    right = sum(round(each.recall * each.examples) for each in report.labels)
    assert right == report.rows["dev"] - len(report.errors)
    assert all(error.answer != error.label == dict(zip(X, y, strict=True))[error.text] for error in report.errors)


FORMS = {
    "numpy": np.array,
    "objects": lambda X: np.array(X, dtype=object),
    "one column": lambda X: np.array(X).reshape(-1, 1),
    "series": lambda X: pd.Series(X, index=range(7, 7 + len(X))),
    "frame": lambda X: pd.DataFrame({"id": range(len(X)), "text": X, "more": 1}),
    "one column of a frame": lambda X: pd.DataFrame({"message": X}),
    "arrow": pa.array,
    "chunked": lambda X: pa.chunked_array([X[:3], X[3:]]),
    "table": lambda X: pa.table({"text": X}),
    "tuple": tuple,
    "mappings": lambda X: [{"text": text} for text in X],
    "columns": lambda X: {"text": X},
    "generator of an iterable": lambda X: dict.fromkeys(X).keys(),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_come_in_any_form(fitted, data, form):
    X = list(dict.fromkeys(data("test")[0]))[:8]
    np.testing.assert_array_equal(fitted.predict_proba(FORMS[form](X)), fitted.predict_proba(X))


def test_texts_come_from_polars_and_datasets(fitted, data):
    datasets = pytest.importorskip("datasets")
    X = data("test")[0][:8]
    table = datasets.Dataset.from_dict({"text": X, "label": [0] * 8})
    for form in (table, table["text"]):
        np.testing.assert_array_equal(fitted.predict_proba(form), fitted.predict_proba(X))
    polars = pytest.importorskip("polars")
    for form in (polars.Series(X), polars.DataFrame({"text": X})):
        np.testing.assert_array_equal(fitted.predict_proba(form), fitted.predict_proba(X))


def test_pairs_and_integer_labels(world, data, quick, tmp_path):
    X, y = data("pairs")
    y = [int(label) for label in y]
    classifier = bort.BortClassifier(**quick).fit(X, y)
    assert classifier.classes_.dtype.kind == "i"
    frame = pd.DataFrame(X, columns=["text", "text_b"])
    np.testing.assert_array_equal(classifier.predict(frame), classifier.predict(X))
    classifier.save(tmp_path / "saved")
    loaded = bort.BortClassifier.load(tmp_path / "saved")
    assert loaded.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(loaded.predict_proba(np.array(X)), classifier.predict_proba(X))


def test_a_regressor(world, data, quick, tmp_path):
    X, y = data("regression")
    regressor = bort.BortRegressor(**quick | {"max_steps": 40, "learning_rates": [1e-2]}).fit(X, np.array(y))
    assert np.corrcoef(regressor.predict(X), y)[0, 1] > 0.5
    assert np.isfinite(regressor.score(X, y))
    assert "pearson" in regressor.report_.scores["dev"]
    off = [abs(error.answer - error.label) for error in regressor.report_.errors]
    assert off == sorted(off, reverse=True)
    regressor.save(tmp_path / "saved")
    np.testing.assert_array_equal(bort.BortRegressor.load(tmp_path / "saved").predict(X), regressor.predict(X))
    with pytest.raises(BortError, match="must be a classification"):
        bort.BortClassifier.load(tmp_path / "saved")


def test_the_tools_of_scikit_learn_take_it(data, quick):
    X, y = data("train")
    assert cross_val_score(bort.BortClassifier(**quick), X, y, cv=2).shape == (2,)
    search = GridSearchCV(bort.BortClassifier(**quick), {"learning_rates": [1e-6, 3e-2]}, cv=2).fit(X, y)
    assert search.best_estimator_.predict(X).shape == (40,)
    calibrated = CalibratedClassifierCV(bort.BortClassifier(**quick), cv=2).fit(np.array(X), y)
    np.testing.assert_allclose(calibrated.predict_proba(np.array(X)).sum(1), 1)
    stripped = FunctionTransformer(lambda texts: [text.strip() for text in texts])
    piped = make_pipeline(stripped, bort.BortClassifier(**quick)).fit(X, y)
    assert {*piped.predict([f" {text} " for text in X])} <= {"cat", "other"}
    assert piped.set_params(bortclassifier__max_steps=1).get_params()["bortclassifier__max_steps"] == 1


def test_a_pickle_holds_the_model_and_no_path(fitted, data, tmp_path):
    X, _ = data("test")
    cloned = clone(fitted)
    assert not hasattr(cloned, "model_")
    fitted_here = bort.BortClassifier().set_params(**cloned.get_params() | {"model": "bort-nano"})
    for name in ("classes_", "multilabel_", "_columns", "model_", "report_"):
        setattr(fitted_here, name, getattr(fitted, name))
    joblib.dump(fitted_here, tmp_path / "model.joblib")
    content = (tmp_path / "model.joblib").read_bytes()
    assert fitted.model_.files["model.safetensors"] in content
    assert tempfile.gettempdir().encode() not in content
    assert not re.search(rb"/(?:home|root|tmp|work|usr)/", content)
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.report_ == fitted.report_


def test_a_saved_folder_opens_everywhere(fitted, data, tmp_path):
    X, _ = data("test")
    fitted.save(tmp_path / "saved")
    with pytest.raises(BortError, match="already exists"):
        fitted.save(tmp_path / "saved")
    loaded = bort.BortClassifier.load(tmp_path / "saved")
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    ours = bort.Predictor(str(tmp_path / "saved")).predict(X)
    assert [answer.label for answer in ours] == fitted.predict(X).tolist()
    theirs = pipeline("text-classification", str(tmp_path / "saved"))(X)
    assert [answer["label"] for answer in theirs] == fitted.predict(X).tolist()


def test_a_bi_encoder_keeps_its_encoder(data, tmp_path):
    X, y = data("pairs")
    classifier = bort.BortClassifier(pairs="bi-encoder").fit(X, y)
    classifier.save(tmp_path / "saved")
    joblib.load(joblib.dump(classifier, tmp_path / "file")[0]).save(tmp_path / "again")
    for folder in ("saved", "again"):
        assert (tmp_path / folder / "modules.json").is_file()
        with bort.Encoder(str(tmp_path / folder)) as encoder:
            np.testing.assert_allclose(np.linalg.norm(encoder.encode(["a cat"]), axis=1), 1, atol=1e-6)
    loaded = bort.BortClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


def test_the_model_may_be_a_path(world, data, tmp_path):
    X, y = data("train")
    classifier = bort.BortClassifier(Path(world.encoder)).fit(X, y)
    classifier.save(tmp_path / "saved")
    assert bort.BortClassifier.load(tmp_path / "saved").model == world.encoder
    rows = [{"text": text, "label": label} for text, label in zip(X, y, strict=True)]
    settings = bort.FinetuneArguments(model=Path(world.encoder), method="head", out=tmp_path / "run")
    assert bort.finetune(settings, train=rows).metrics["model"] == world.encoder


def test_an_exported_model_answers_alike(fitted, data, tmp_path):
    X, y = data("test")
    figures = fitted.export(tmp_path / "fast", X, y, precision="fp32")
    assert figures["precision"] == "fp32"
    exported = bort.BortClassifier.load(tmp_path / "fast")
    np.testing.assert_allclose(exported.predict_proba(X), fitted.predict_proba(X), atol=1e-5)
    with pytest.raises(BortError, match="is an export already"):
        exported.export(tmp_path / "faster")
    again = joblib.load(joblib.dump(exported, tmp_path / "fast.joblib")[0])
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_a_folder_of_hugging_face(classifier, sentences, tmp_path):
    loaded = bort.BortClassifier.load(classifier)
    assert loaded.classes_.tolist() == sorted(["cat", "other", 'a, "b"'])
    loaded.save(tmp_path / "saved")
    again = bort.BortClassifier.load(tmp_path / "saved")
    assert again.classes_.tolist() == loaded.classes_.tolist()
    np.testing.assert_array_equal(again.predict_proba(sentences[:5]), loaded.predict_proba(sentences[:5]))
    (tmp_path / "saved" / "estimator.json").write_text('{"classes": ["x", "y", "z"]}')  # of other names than the model
    assert bort.BortClassifier.load(tmp_path / "saved").classes_.tolist() == loaded.classes_.tolist()
    answers = [answer.label for answer in bort.Predictor(classifier).predict(sentences[:20])]
    assert loaded.predict(sentences[:20]).tolist() == answers
    assert loaded.report_ is None


TEACHERS = {
    "function": lambda X, y: lambda texts: ["cat" if "cat" in text else "other" for text in texts],
    "scikit-learn": lambda X, y: make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(X, y),
    "without probabilities": lambda X, y: type("Rule", (), {"predict": lambda self, texts: ["cat"] * len(texts)})(),
}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_teachers(world, data, quick, teacher):
    (X, y), (X_dev, y_dev) = data("train"), data("dev")
    settings = {"points_per_mistake": 0, "transform_model": world.encoder, "weak_teacher": "use", "min_cosine": -1.0}
    student = bort.BortClassifier(**quick | {"learning_rates": [3e-2, 1e-2], "method": "agora"}, settings=settings)
    asked = TEACHERS[teacher](X, y)
    student.fit(X, y, X_dev=X_dev, y_dev=y_dev, unlabelled=[text + "!" for text in X], teacher=asked)
    assert student.report_.part == "test"
    assert student.score(*data("test")) > 0.3


def test_a_folder_teaches(world, data, quick, fitted, tmp_path):
    fitted.save(tmp_path / "teacher")
    (X, y), settings = data("train"), {"points_per_mistake": 0, "transform_model": world.encoder}
    student = bort.BortClassifier(**quick | {"method": "agora"}, settings=settings)
    student.fit(X, y, unlabelled=[text + "!" for text in X], teacher=tmp_path / "teacher")
    assert tempfile.gettempdir() not in json.dumps(student.report_.to_dict())


def test_chance_is_the_parameters_alone(data, quick):
    X, y = data("train")
    quick["settings"] = {"keep_better": False, "refit": False}
    first, again, other = (bort.BortClassifier(**quick, random_state=seed).fit(X, y) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert (first.predict_proba(X) != other.predict_proba(X)).any()
    bort.BortClassifier(**quick, random_state=np.random.RandomState(0), n_jobs=1).fit(X, y)
    bort.BortClassifier(quick["model"], random_state=2**32 - 1).fit(X, y)
    with pytest.raises(ValueError, match="between 0 and"):
        bort.BortClassifier(quick["model"], random_state=-1).fit(X, y)


def test_fits_that_overlap_are_those_of_one_after_the_other(data, quick):
    X, y = data("train")

    def fit(seed):
        settings = {"keep_better": False, "refit": False}
        classifier = bort.BortClassifier(**quick, settings=settings, n_jobs=1, random_state=seed).fit(X, y)
        return classifier.predict_proba(X)

    with ThreadPoolExecutor(2) as pool:
        overlapping = [*pool.map(fit, (1, 2))]
    for seed, found in zip((1, 2), overlapping, strict=True):
        np.testing.assert_array_equal(found, fit(seed))


def test_a_fit_leaves_the_callers_random_numbers_alone(data, quick):
    (X, y), drawn = data("train"), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        bort.BortClassifier(**quick).fit(X, y)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert not {*drawn[0]} & {*drawn[1]}


def test_threads_are_limited_only_at_work(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        settings = json.loads((tmp_path / "saved" / "estimator.json").read_text())
        settings["parameters"]["n_jobs"] = 1
        (tmp_path / "saved" / "estimator.json").write_text(json.dumps(settings))
        bort.BortClassifier.load(tmp_path / "saved").predict(["a"])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_calls_that_overlap_leave_the_number_of_threads():
    def call(n_jobs, entered, leave):
        with bort.BortClassifier(n_jobs=n_jobs)._work():
            inside = torch.get_num_threads()
            entered.set()
            leave.wait(10)
        return inside, torch.get_num_threads()

    before, calls = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(2) as pool:
            for n_jobs in (1, 2):
                entered, leave = threading.Event(), threading.Event()
                calls.append((pool.submit(call, n_jobs, entered, leave), leave))
                assert entered.wait(10)
            for number, (answer, leave) in enumerate(calls, start=1):  # ends in the order of the beginnings
                leave.set()
                assert answer.result() == (number, 3)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 3, "also in a new thread"
    finally:
        torch.set_num_threads(before)


def test_what_a_call_does_to_the_number_of_threads_is_undone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with bort.BortClassifier()._work():
            torch.set_num_threads(1)  # as bort does in a container that may use one core
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_fit_that_fails_leaves_no_old_model(data, quick):
    X, y = data("train")
    classifier = bort.BortClassifier(**quick).fit(X, y)
    with pytest.raises(BortError, match="need method='agora'"):
        classifier.fit(X, [f"not {label}" for label in y], teacher="x")
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
    assert not hasattr(classifier, "report_")


def test_a_model_of_single_texts_warns_of_pairs(fitted):
    with pytest.warns(UserWarning, match="this BortClassifier was fine-tuned on single texts and is asked") as told:
        fitted.predict([("a", "b")])
    assert told[0].filename == __file__


def test_settings_of_training_without_training(world, data):
    X, y = data("train")
    head = bort.BortClassifier(world.encoder, learning_rates=1e-3, max_epochs=2, settings={"patience": 2})
    with pytest.warns(UserWarning, match="without effect, .*: max_epochs, learning_rates, patience") as told:
        head.fit(X, y)
    assert told[0].filename == __file__


def test_a_model_is_written_to_one_temporary_folder(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = ModelFiles(fitted.model_.files)
    for threads in (1, 2, None, 1):
        files.predictor(threads)
    [folder] = tmp_path.iterdir()
    shutil.rmtree(folder / "model")  # as systems do with old files
    assert files.predictor(2).predict("a cat").label
    del files
    assert not [*tmp_path.iterdir()]


def test_threads_are_at_most_a_few_per_core(fitted):
    assert bort.BortClassifier(n_jobs=10_000)._threads() <= 4 * (os.cpu_count() or 1)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        clone(fitted).set_params(n_jobs=0)._threads()


def test_nothing_is_printed_unless_asked(data, quick, capfd):
    X, y = data("train")
    quiet = bort.BortClassifier(**quick).fit(X, y)
    quiet.predict(X)
    assert capfd.readouterr() == ("", "")
    bort.BortClassifier(**quick, verbose=True).fit([*X, X[0]], [*y, y[0]])
    told = capfd.readouterr().err
    assert "to train on" in told
    assert f"X:{len(X) + 1}" in told  # a copy
    assert tempfile.gettempdir() not in told
    bort.BortClassifier(quick["model"], verbose=None).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_a_models_files_include_its_added_tokens(tmp_path):
    prompts = "config_sentence_transformers.json"  # which may say that a cross-encoder's outputs are not its scores
    for name in ("config.json", "vocab.txt", "added_tokens.json", "model.safetensors", "notes.txt", prompts):
        (tmp_path / name).write_text("{}")
    kept = ModelFiles.of(tmp_path).files
    assert sorted(kept) == ["added_tokens.json", "config.json", prompts, "model.safetensors", "vocab.txt"]


def test_threads_may_share_it(fitted, data):
    X, _ = data("test")
    hashed = joblib.hash  # its hash does not change by answering
    before, expected = hashed(fitted.get_params()), fitted.predict_proba(X)
    again = ModelFiles(fitted.model_.files)
    sharing = clone(fitted)
    sharing.classes_, sharing._columns, sharing.model_ = fitted.classes_, fitted._columns, again
    sharing.multilabel_ = False
    found = []
    threads = [threading.Thread(target=lambda: found.append(sharing.predict_proba(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        np.testing.assert_allclose(each, expected, atol=1e-6)
    assert len(found) == 4
    assert hashed(fitted.get_params()) == before


@pytest.mark.parametrize(("library", "table"), [("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")])
def test_labels_may_be_a_table_of_one_column(library, table):
    form = getattr(pytest.importorskip(library), table)
    with pytest.warns(DataConversionWarning):
        assert labels_of(form({"kind": ["x", "y"]}), "y").tolist() == ["x", "y"]
    with pytest.raises(DataError, match=r"y:2: .*a label must not be missing"):
        labels_of(form({"kind": ["x", None]}), "y")
    with pytest.raises(ValueError, match="1d array"):
        labels_of(form({"kind": ["x", "y"], "other": ["x", "y"]}), "y")


@pytest.mark.parametrize(
    ("X", "y", "rule"),
    [
        (["a", "b", "c"], ["x", "y"], "3 texts and there are 2 labels"),
        (["a", " "], ["x", "y"], "X:2: .*must not be blank"),
        (["a", None], ["x", "y"], "X:2: .*must be a text"),
        (["a", 3], ["x", "y"], "X:2: value 3: must be a text"),
        ("ab", ["x", "y"], "must be a list"),
        (["a", "b"], ["x", "x"], "at least two classes"),
        (["a", "b"], ["x", None], "y:2: .*a label must not be missing"),
        (["a", "b"], pd.Series(["x", pd.NA], dtype="string"), "y:2: .*a label must not be missing"),
        (["a", "b"], pd.Series([1, pd.NA], dtype="Int64"), "y:2: .*a label must not be missing"),
        (["a", "b"], pd.DataFrame({"x": pd.array([1, pd.NA]), "y": [0, 1]}), "a matrix of 0 and 1"),
        (["a", "b"], [0.5, 1.5], "Unknown label type"),
        ([], [], "there are no labels"),
        (["a", "b"], np.array(["2020-01-01", "2021-01-01"], "M8[ns]"), "must not be a date"),
        (["a", "b"], pd.DataFrame({"y": pd.to_datetime(["2020", "2021"])}), "must not be a date"),
        (["a", "b"], pd.Series([["x", "y"], ["x"]]), "one a text, or a matrix of 0 and 1"),
        (["a", "b"], [[0, 2], [1, 0]], "one a text, or a matrix of 0 and 1"),
        (["a", "b"], None, "requires y"),
        (["a", "b"], ["x", "x "], "no space around"),
        (pd.DataFrame({"a": ["x"] * 2, "b": ["x"] * 2, "c": ["x"] * 2}), ["x", "y"], "must have a column 'text'"),
        (["a", "b"], ["x", "y"], "X: the training data have 2 examples, .*; give X_dev and y_dev, or more examples"),
        (["a\ud83d", "b"], ["x", "y"], "X:1: .*half of a surrogate pair"),
    ],
)
def test_bad_data_are_told_as_value_errors(quick, X, y, rule):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=rule) as told:
            bort.BortClassifier(**quick).fit(X, y)
    assert tempfile.gettempdir() not in str(told.value)


SETTINGS_OF_ITS_OWN = {
    "out": "leaves open",
    "text": "leaves open",
    "method": "a parameter of its own",
    "learning_rates": "a parameter of its own",
    "seeds": "set by random_state",
}


def test_other_mistakes(data, quick, fitted, tmp_path):
    X, y = data("train")
    with pytest.raises(DataError, match="X_dev and y_dev"):
        bort.BortClassifier(**quick).fit(X, y, X_dev=X)
    with pytest.raises(DataError, match=r"y_dev:1: .*must be one of cat, other"):
        bort.BortClassifier(**quick).fit(X, y, X_dev=X[:1], y_dev=["dog"])
    numbers = [len(label) for label in y]
    with pytest.raises(DataError, match=r"y_dev:1: value '3': labels must be of the type that they have in y, int"):
        bort.BortClassifier(**quick).fit(X, numbers, X_dev=X[:1], y_dev=["3"])
    with pytest.raises(BortError, match="need method='agora'"):
        bort.BortClassifier(**quick).fit(X, y, teacher=DummyClassifier())
    for name, rule in SETTINGS_OF_ITS_OWN.items():
        with pytest.raises(BortError, match=f"'{name}': .*{rule}"):
            bort.BortClassifier(**quick, settings={name: "x"}).fit(X, y)
    with pytest.raises(BortError, match="--method: value None: must be one of agora, plain, head"):
        bort.BortClassifier(method=None).fit(X, y)
    with pytest.raises(BortError, match="JSON cannot hold"):
        copy.copy(fitted).set_params(settings={"weight_decays": {0.1}}).save(tmp_path / "saved")
    for name in ("foo", "model"):
        with pytest.raises(BortError, match=f"'{name}': is no setting of bort.ExportArguments that an export"):
            fitted.export(tmp_path / "fast", **{name: 1})
    with pytest.raises(DataError, match="the teacher must be"):
        bort.BortClassifier(method="agora").fit(X, y, teacher=3)
    with pytest.raises(NotFittedError):
        bort.BortClassifier(**quick).predict(X)
    with pytest.raises(DataError, match="finite number"):
        bort.BortRegressor(**quick).fit(X, [float("inf")] * len(X))
    with pytest.raises(DataError, match="must be a number"):
        bort.BortRegressor(**quick).fit(X, y)
    with pytest.raises(BortError, match=f"^{quick['model']}: .*is no classifier"):
        bort.BortRegressor.load(quick["model"])
    with pytest.raises(BortError, match="holds no config"):
        bort.BortClassifier.load(tmp_path)
    (tmp_path / "estimator.json").write_text("[]")
    with pytest.raises(BortError, match="was not written by `save`"):
        bort.BortClassifier.load(tmp_path)
