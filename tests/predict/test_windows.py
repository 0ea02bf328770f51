"""Texts longer than a model takes: by their beginning, or by all of their windows."""

from __future__ import annotations

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.predict.predictor import Predictor


@pytest.fixture(params=["torch", "onnxruntime"])
def model(request, classifier, tmp_path):
    if request.param == "torch":
        return classifier
    Exporter(classifier).write(tmp_path, None)
    return str(tmp_path)


@pytest.fixture
def texts(sentences):
    """Of one window, of several, and one whose last window is too short to count."""
    return [sentences[0], " ".join(sentences[:40]), "", " ".join(sentences[50:90]), " ".join(sentences[100:300])]


def windows(predictor, text):
    """What is said of each window, asked alone. *Shape:* (windows, outputs)."""
    encoded = predictor.engine.encode([text], windows=True)
    assert len(encoded.windows) == 1
    return predictor.engine.run(type(encoded)(encoded.columns, 0))


@pytest.mark.parametrize("long", ["mean", "max"])
def test_all_windows_count(model, texts, long):
    first, predictor = Predictor(model), Predictor(model, long=long)
    found = predictor.predict_proba(texts)
    differs = []
    for text, row in zip(texts, found, strict=True):
        of_windows = predictor.task.activate(windows(predictor, Example(text)))
        if long == "mean":
            expected = of_windows.mean(0)
        else:
            expected = of_windows.max(0) / of_windows.max(0).sum()
        np.testing.assert_allclose(row, expected, atol=1e-5)
        if len(of_windows) > 1:
            differs.append(np.abs(row - first.predict_proba([text])[0]).max())
        else:
            np.testing.assert_allclose(row, first.predict_proba([text])[0], atol=1e-6)
    assert len(differs) == 3
    assert max(differs) > 0.01
    assert predictor.cut == 3
    assert "read in windows" in next(predictor.told())


@pytest.mark.parametrize("long", ["first", "mean", "max"])
def test_a_text_whose_end_is_too_short_for_a_window_is_counted(model, long):
    predictor = Predictor(model, long=long)
    text = next(text for text in ("a " * count for count in range(99)) if predictor.engine.encode([Example(text)]).cut)
    encoded = predictor.engine.encode([Example(text)], windows=True)
    assert (encoded.windows, encoded.cut) == ((1,), 1)
    predictor.predict(text)
    assert predictor.cut == 1


def test_no_word_is_lost(classifier, sentences):
    engine = Predictor(classifier).engine
    text = " ".join(sentences[:60])
    whole = engine.tokenizer.backend_tokenizer.from_str(engine.tokenizer.backend_tokenizer.to_str())
    whole.no_truncation()
    rows = engine.encode([Example(text)], windows=True).columns["input_ids"]
    assert [id for row in rows for id in row[1:-1]] == whole.encode(text).ids[1:-1][: sum(len(row) - 2 for row in rows)]
    assert all(len(row) <= engine.max_length for row in rows)
    missing = len(whole.encode(text).ids) - 2 - sum(len(row) - 2 for row in rows)
    assert missing < engine.max_length / 4


def test_values_are_averaged(regressor, sentences):
    text = " ".join(sentences[:60])
    mean, greatest = (Predictor(regressor, long=long) for long in ("mean", "max"))
    of_windows = windows(mean, Example(text))[:, 0]
    assert len(of_windows) > 2
    assert mean.predict(text).label == pytest.approx(of_windows.mean(), abs=1e-5)
    assert greatest.predict(text).label == pytest.approx(of_windows.max(), abs=1e-5)


def test_pairs_have_no_windows(classifier):
    with pytest.raises(BortError, match="single texts"):
        Predictor(classifier, long="mean").predict([("a", "b")])
