"""What a run shares over its trials: the tokenised texts, and which texts it was fitted to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.finetuning import fitter as module
from bort.finetuning.fingerprint import KEY, fingerprint, seen
from bort.finetuning.fitter import Fitter, TokenCache
from bort.predict.encoding import encode
from bort.tasks.regression import Regression

PAIRS = [Example("a", "b"), Example("a"), Example("a b"), Example("b", "a")]
CHOICES = [Example("a cat", choices=("b", "c d")), Example("a dog", choices=("e", "f"))]


@pytest.mark.parametrize("examples", [PAIRS, CHOICES])
def test_cached_tokens_are_those_of_the_tokenizer(tiny_tokenizer, examples):
    cache = TokenCache(tiny_tokenizer, 32)
    cache(examples[1:])
    again = [examples[1], examples[0], examples[1]]
    found, expected = cache(again), encode(again, tiny_tokenizer, 32)
    assert (found.columns, found.choices, len(found)) == (expected.columns, expected.choices, 3)
    assert len(cache([])) == 0


def test_a_text_is_tokenised_once(tiny_tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "encode", lambda examples, *rest: asked.extend(examples) or encode(examples, *rest))
    cache = TokenCache(tiny_tokenizer, 4)
    for label in ("x", "y"):
        found = cache([Example("a"), Example("a cat sat on a mat", label=label)])
        assert found.cut_places == (1,)
    assert [example.text for example in asked] == ["a", "a cat sat on a mat"]
    assert cache([Example("a")]).cut == 0, "only the given texts count"


def test_a_model_that_was_fitted_to_texts_is_told_of(tmp_path):
    texts = [Example(f"text {n}") for n in range(400)]
    (tmp_path / "metrics.json").write_text(json.dumps({KEY: fingerprint(texts)}))
    assert seen(tmp_path, texts[:30]) == 30
    assert seen(tmp_path, [Example(" TEXT  7 "), Example("text 7", "b"), Example("another")]) == 1
    assert seen(tmp_path / "other", texts) == 0


def test_of_many_texts_a_fair_sample_is_known(tmp_path):
    texts = [Example(f"text {n}") for n in range(5000)]
    (tmp_path / "metrics.json").write_text(json.dumps({KEY: fingerprint(reversed(texts))}))
    assert seen(tmp_path, texts) == 500
    assert 20 < seen(tmp_path, texts[:500]) < 100


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"train_texts": 3}'])
def test_a_folder_of_others_tells_nothing(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    assert seen(tmp_path, [Example("a")]) == 0


@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e20])
def test_labels_are_standardised_in_any_unit(world, unit):
    """Their squares leave single precision; ordinary ones keep every bit."""
    values = [unit * value for value in (0.7, 1.9, 3.3, 12.1)]
    examples = [Example(f"a {n}", label=value) for n, value in enumerate(values)]
    fitter = Fitter(world.encoder, Regression((), "pearson"), examples, max_length=8, limits=None)
    found = fitter._scaled(fitter.labelled(examples)).targets
    assert found.dtype == np.float32
    exact = (np.array(values) - np.mean(values)) / np.std(values)
    assert found == pytest.approx(exact, rel=1e-5)
    assert found * fitter._spread + fitter._mean == pytest.approx(values, rel=1e-5)
    if unit == 1:
        plain = np.array(values, np.float32)
        assert found.tolist() == ((plain - float(plain.mean())) / float(plain.std())).tolist()
