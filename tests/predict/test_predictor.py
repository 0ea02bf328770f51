"""The predictor: one answer a text, whatever stands beside it, and the library's own."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import bort
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(classifier) -> Predictor:
    return Predictor(classifier)


@pytest.fixture(scope="module")
def mixed(sentences) -> list[str | tuple[str, str]]:
    """Texts and pairs, short, long, empty, and strange."""
    rng = random.Random(0)
    texts = [*rng.sample(sentences, 20), "", " ", "a", "\n", "漢字 🙂", "<mask> </s> <pad>", "word " * 40]
    return [*texts, *((rng.choice(sentences), rng.choice(["", *sentences])) for _ in range(12)), ("", ""), ("a", "")]


def shares(answers) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in answers])


def test_the_same_one_by_one_in_a_batch_and_in_any_order(predictor, mixed):
    together = shares(predictor.predict(mixed))
    alone = np.concatenate([shares(predictor.predict([text])) for text in mixed])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    order = list(range(len(mixed)))
    random.Random(1).shuffle(order)
    shuffled = shares(predictor.predict([mixed[index] for index in order]))
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    np.testing.assert_allclose(together.sum(-1), 1, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 0.3, "the answers should differ, or the test says nothing"


def test_a_blank_second_text_is_none(predictor, classifier):
    alone, *others = shares(predictor.predict(["a", ("a", ""), ["a", " "], {"text": "a", "text_pair": ""}]))
    for other in others:
        np.testing.assert_allclose(other, alone, atol=1e-6)
    one, other = bort.BortClassifier.load(classifier).predict_proba(["a", ("a", "")])
    np.testing.assert_allclose(other, one, atol=1e-6)


def test_any_window_gives_the_same(predictor, mixed):
    examples = predictor._examples(mixed)
    together = shares(predictor.predict(mixed))
    for window in (1, 5, len(mixed), 10**9):
        np.testing.assert_allclose(shares(predictor.stream(examples, window=window)), together, atol=1e-5)


def test_equals_the_pipeline_of_transformers(classifier, predictor, sentences):
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    theirs = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(classifier))
    texts = [*sentences[:12], "", "word " * 100]
    for text, ours in zip(texts, predictor.predict(texts), strict=True):
        scores = {entry["label"]: entry["score"] for entry in theirs(text, top_k=None, truncation=True)}
        assert scores == pytest.approx(ours.probabilities, abs=1e-5)
        assert max(scores, key=scores.__getitem__) == ours.label
    pair = theirs({"text": sentences[0], "text_pair": sentences[1]}, top_k=None)
    ours = predictor.predict([(sentences[0], sentences[1])])[0]
    assert {entry["label"]: entry["score"] for entry in pair} == pytest.approx(ours.probabilities, abs=1e-5)


def test_regression(regressor, sentences):
    import torch

    tokenizer = AutoTokenizer.from_pretrained(regressor)
    model = AutoModelForSequenceClassification.from_pretrained(regressor).eval()
    with torch.no_grad():
        expected = model(**tokenizer(sentences[:8], padding=True, return_tensors="pt")).logits[:, 0].tolist()
    answers = Predictor(regressor).predict(sentences[:8])
    assert [answer.label for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert all(answer.probabilities == {} for answer in answers)


@pytest.mark.parametrize("window", [1, 2, 3, 8])
def test_an_endless_stream_is_taken_a_window_at_a_time(predictor, window):
    taken = 0

    def endless():
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield Example(f"text {number}")

    answers = predictor.stream(endless(), window=window)
    assert taken == 0
    for answered in range(1, 10):
        next(answers)
        assert answered <= taken < answered + window, "no more than these are held"


def test_long_texts_are_counted(classifier):
    predictor = Predictor(classifier)
    assert predictor.max_length == 32
    predictor.predict(["short", "word " * 100, ("word " * 100, "b"), "also short"])
    predictor.predict(["word " * 31])
    assert predictor.cut == 3


def test_one_input_gets_one_answer(predictor, sentences):
    one = predictor.predict(sentences[0])
    assert one == predictor.predict([sentences[0]])[0]
    assert one == predictor.predict({"text": sentences[0]})
    ranked = one.top_k(2)
    assert ranked[0] == (one.label, max(one.probabilities.values()))
    assert len(ranked) == 2
    assert ranked[0][1] >= ranked[1][1]


def test_forms_of_a_pair(predictor, sentences):
    first, second = sentences[:2]
    forms = [(first, second), [first, second], {"text": first, "text_pair": second}]
    found = predictor.predict_proba([*forms, {"text": first}, {"text": first, "text_pair": None}, first])
    assert found.shape == (6, 3)
    np.testing.assert_allclose(found[:3], found[[0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found[3:], found[[5, 5, 5]], atol=1e-6)
    assert np.abs(found[0] - found[5]).max() > 1e-3
    np.testing.assert_allclose(found, shares(predictor.predict([*forms, *[first] * 3])), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        ("a", "b", "c"),
        ("a",),
        ("a", None),
        ["a", 1],
        {"txt": "a"},
        {"text": "a", "text_b": "b"},
        {"text": None},
        {"text": "a", "text_pair": 3},
        {},
        None,
        b"a",
        1.5,
        Example("a"),
    ],
    ids=repr,
)
def test_an_input_of_another_form_is_refused(predictor, wrong):
    with pytest.raises(TypeError) as caught:
        predictor.predict(["a", wrong])
    assert "must be a text, a pair of texts as a tuple or list, or a mapping" in str(caught.value)
    assert type(wrong).__name__ in str(caught.value)
    assert repr(wrong)[:80] in str(caught.value)


@pytest.mark.parametrize("wrong", ["é\ud800", ("a", "é\ud800"), {"text": "a", "text_pair": "é\ud800"}], ids=ascii)
def test_half_of_a_surrogate_pair_is_told_of(predictor, wrong):
    rule = r"value 'é\\ud800': must be valid Unicode; character 2 is half of a surrogate pair"
    with pytest.raises(BortError, match=rule):
        predictor.predict(["ä", wrong])


def test_probabilities_are_of_lists_and_of_classes(predictor, regressor):
    with pytest.raises(TypeError, match="must be a list of texts or pairs, not str 'a text'"):
        predictor.predict_proba("a text")
    with pytest.raises(BortError, match="a regression gives values"):
        Predictor(regressor).predict_proba(["a"])
    assert predictor.predict_proba([]).shape == (0, 3)


def test_a_column_of_pyarrow_holds_texts(classifier):
    column = pa.chunked_array([["a", "b"], ["c"]])
    with Predictor(classifier) as predictor:
        assert predictor.predict(column) == predictor.predict(["a", "b", "c"])
        np.testing.assert_array_equal(predictor.predict_proba(column), predictor.predict_proba(["a", "b", "c"]))


def test_a_closed_predictor_is_gone(classifier):
    with Predictor(classifier) as predictor:
        assert predictor.predict("a").label
    with pytest.raises(ValueError, match="is closed"):
        predictor.predict("a")
    predictor.close()


@pytest.mark.parametrize(("fitted", "given"), [(True, "a"), (False, ("a", "b"))])
def test_pairs_and_single_texts_are_told_apart(classifier, tmp_path, fitted, given):
    shutil.copytree(classifier, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bort_pairs": fitted}))
    predictor = Predictor(str(tmp_path / "m"))
    with pytest.warns(UserWarning, match="fine-tuned on (pairs of|single) texts"):
        predictor.predict([given])
    list(predictor.stream([Example("a"), Example("a", "b"), Example("b")]))
    assert predictor.unlike_training == 1 + (2 if fitted else 1)
    [line] = predictor.told()
    assert ("single texts that a model fine-tuned on pairs" in line) == fitted


def test_a_model_in_the_home_folder(classifier, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(classifier).parent))
    name = f"~/{Path(classifier).name}"
    assert Predictor(name).predict("a") == Predictor(classifier).predict("a")
    assert bort.Encoder(name).encode("a").any()


def test_nothing_to_answer(predictor):
    assert predictor.predict([]) == []
    assert predictor.logits([]).shape == (0, 3)
    assert list(predictor.stream(iter([]))) == []


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table, dict])
def test_a_whole_table_is_no_list_of_texts(predictor, table):
    given = table({"text": ["a", "b"]})
    with pytest.raises(TypeError):
        predictor.predict(given)
    with pytest.raises(TypeError):
        predictor.predict_proba(given)
    assert len(predictor.predict(pd.Series(["a", "b"]))) == 2


def test_misuse(classifier, predictor):
    with pytest.raises(BortError, match="--long: value 'median': must be one of first, mean, max"):
        Predictor(classifier, long="median")
    for window in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            next(predictor.stream([Example("a")], window=window))
    assert bort.Predictor is Predictor


def test_outputs_that_are_no_numbers_are_told_of(classifier, tmp_path):
    shutil.copytree(classifier, tmp_path / "diverged")
    file = tmp_path / "diverged" / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(BortError, match="diverged: the model's outputs must be finite"):
        Predictor(str(tmp_path / "diverged")).predict(["a"])


@pytest.mark.parametrize("length", [0, 3, -5])
def test_a_length_that_holds_no_text(classifier, tmp_path, length):
    folder = with_settings(classifier, tmp_path, model_max_length=length)
    with pytest.raises(BortError, match=f"model_max_length.*value {length}: must be a whole number from 4"):
        Predictor(folder)


def test_a_tokenizer_that_says_no_length_gets_the_models(classifier, tmp_path):
    assert Predictor(with_settings(classifier, tmp_path, model_max_length=1e30)).max_length == 64


def test_a_tokenizer_without_padding(classifier, tmp_path):
    """As decoders have it; ours always has one, so it is the library's that is loaded here."""
    folder = with_settings(classifier, tmp_path, pad_token=None, sep_token=None)
    with pytest.raises(BortError, match="no padding token"):
        Predictor(folder)


def with_settings(classifier, tmp_path, **settings) -> str:
    shutil.copytree(classifier, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **settings}), "utf-8")
    return str(tmp_path / "model")
