"""A linear head, and a mean, inside the layers of a plain classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from bort.finetuning.first_token import FIRST, MEAN, holds_heads, holds_means, put_head, read_features, with_mean
from bort.model.modelling import BortForSequenceClassification
from bort.predict.classifiers import predict_logits
from bort.predict.encoding import TokenizedExamples

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "num_labels": 3,
    "pad_token_id": 0,
}


def bert():
    torch.manual_seed(0)
    return BortForSequenceClassification(BertConfig(**SHAPE))


def roberta():
    torch.manual_seed(0)
    return RobertaForSequenceClassification(RobertaConfig(**SHAPE))


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 60, size=length).tolist() for length in rng.integers(3, 20, size=30)]
    return TokenizedExamples({"input_ids": rows})


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("pooling", [FIRST, MEAN])
def test_a_plain_classifier_answers_as_the_linear_head(make, pooling, encoded, tmp_path):
    model = make()
    x = read_features(model, encoded, 0)[pooling].astype(np.float64)
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(3, 32)), rng.normal(size=3)
    assert holds_heads(model)
    assert holds_means(model)
    if pooling == MEAN:
        model = with_mean(model)
    put_head(model, weight, bias, x)
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(plain).__module__.startswith("transformers.")
    for opened in (model, plain):
        np.testing.assert_allclose(predict_logits(opened, encoded, 0), x @ weight.T + bias, atol=1e-4)


def test_the_added_layer_gives_the_mean_of_a_text_whatever_stands_beside_it(encoded):
    model = bert().eval()
    with torch.no_grad():
        alone = []
        for row in encoded.columns["input_ids"]:
            hidden = model.base_model(input_ids=torch.tensor([row])).last_hidden_state[0]
            alone.append(torch.nn.functional.layer_norm(hidden.mean(0), (32,)).numpy())
    longer = with_mean(model)
    assert longer.config.num_hidden_layers == 3
    assert model.config.num_hidden_layers == 2
    found = read_features(longer, encoded, 0)[FIRST]
    np.testing.assert_allclose(found, read_features(model, encoded, 0)[MEAN], atol=1e-4)
    # The residual of the first token is a thousandth part.
    np.testing.assert_allclose(found, np.array(alone), atol=0.02)


def test_a_class_without_an_example_is_never_the_answer(encoded):
    model = bert()
    x = read_features(model, encoded, 0)[FIRST].astype(np.float64)
    put_head(model, np.zeros((3, 32)), np.array([0.0, 0.0, -np.inf]), x)
    logits = predict_logits(model, encoded, 0)
    assert np.isfinite(logits).all()
    assert (logits[:, 2] < -20).all()


def test_other_heads_are_known_to_hold_none():
    model = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=4, hidden_dim=48)
    )
    assert not holds_heads(model)
    assert not holds_means(model)
