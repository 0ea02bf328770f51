"""A trial trains only the rows of the vocabulary that its texts use, and comes to the same model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from bort.finetuning import used_vocabulary
from bort.finetuning.hyper_parameters import HyperParameters, TrainingLimits
from bort.finetuning.train_once import Labelled, train_once
from bort.finetuning.used_vocabulary import UsedRows, only_used_rows
from bort.predict.encoding import TokenizedExamples
from bort.tasks.classification import Classification

TASK = Classification(("a", "b"), "accuracy")
SHAPE = {"vocab_size": 200, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE, intermediate_size=32)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SHAPE, intermediate_size=32, pad_token_id=1)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**SHAPE, intermediate_size=32, embedding_size=8)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=200, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=1)
    ),
}
PAD = {"bert": 0, "roberta": 1, "electra": 0, "distilbert": 1}


def new_model(kind):
    torch.manual_seed(0)
    return MODELS[kind]()


def labelled(rows, seed):
    rng = np.random.default_rng(seed)
    ids = [[3, *rng.integers(10, 40, rng.integers(2, 9)).tolist(), 4] for _ in range(rows)]
    return Labelled(TokenizedExamples({"input_ids": ids}), np.array([int(row[1] > 24) for row in ids]))


def fitted(kind, folder, *, weight_decay=0.0, **settings):
    model = new_model(kind)
    limits = TrainingLimits(max_epochs=3, max_steps=None, patience=9, eval_steps=3, checkpoint_seconds=0.0)
    theta = HyperParameters(1e-2, 0, weight_decay, 0.1, 8)
    given = {"pad_token_id": PAD[kind], "limits": limits, "folder": folder}
    result = train_once(model, TASK, theta, labelled(30, 1), labelled(20, 2), **(given | settings))
    return model, result


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_trial_comes_to_the_same_model(kind, tmp_path, monkeypatch):
    few, result = fitted(kind, tmp_path / "few")
    monkeypatch.setattr(used_vocabulary, "_MOST", 0.0)
    whole, expected = fitted(kind, tmp_path / "whole")
    assert type(few.get_input_embeddings()) is torch.nn.Embedding
    assert result == expected
    for (name, one), (_, other) in zip(few.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


def test_rows_that_no_text_uses_stay_as_they_were(tmp_path):
    before = new_model("bert").get_input_embeddings().weight
    after = fitted("bert", tmp_path, weight_decay=0.5)[0].get_input_embeddings().weight
    changed = (before != after).any(-1).nonzero().flatten().tolist()
    assert {3, 4, 20} <= {*changed} <= {3, 4, *range(10, 40)}


def test_an_interrupted_trial_goes_on_with_them(tmp_path):
    expected, result = fitted("bert", tmp_path / "whole")

    def interrupt(share, note):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("bert", tmp_path / "parts", on_progress=interrupt)
    assert list((tmp_path / "parts").glob("checkpoint-*/complete*"))
    model, again = fitted("bert", tmp_path / "parts")
    assert again == result
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, expected.state_dict()[name]), name


def test_while_it_lasts_there_are_only_those():
    model = new_model("bert")
    whole, before = model.get_input_embeddings(), model.get_input_embeddings().weight.clone()
    with only_used_rows(model, [[5, 7], [9]], 0):
        rows = model.get_input_embeddings()
        assert isinstance(rows, UsedRows)
        assert rows.weight.shape == (4, 16)
        ids = torch.tensor([[9, 0], [5, 7]])
        assert torch.equal(rows(ids), before[ids])
        with pytest.raises(IndexError):
            rows(torch.tensor([6]))
        with torch.no_grad():
            rows.weight += 1
    assert model.get_input_embeddings() is whole
    before[[0, 5, 7, 9]] += 1
    assert torch.equal(whole.weight, before)


def test_where_most_are_used_nothing_changes():
    model = new_model("bert")
    whole = model.get_input_embeddings()
    with only_used_rows(model, [range(150)], 0):
        assert model.get_input_embeddings() is whole
