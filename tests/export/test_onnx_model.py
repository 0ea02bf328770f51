"""BERT's relatives: exported, they answer as PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.predict.graph.architectures import NAMES
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor

pytest.importorskip("onnxruntime")
_TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_ROBERTA = {**_TINY, "type_vocab_size": 1, "max_position_embeddings": 44, "hidden_act": "gelu"}
CONFIGS = {
    "camembert": (CamembertConfig, _ROBERTA),
    "distilbert": (DistilBertConfig, {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}),
    "roberta": (RobertaConfig, _ROBERTA),
    "xlm-roberta": (XLMRobertaConfig, _ROBERTA),
}


@pytest.fixture
def saved(tiny_tokenizer, tmp_path):
    """A model whose answers differ from text to text, with its tokenizer."""

    def save(config_class, settings, model_class) -> str:
        torch.manual_seed(0)
        config = config_class(
            **settings,
            vocab_size=len(tiny_tokenizer),
            pad_token_id=tiny_tokenizer.pad_token_id,
            initializer_range=0.5,
            num_labels=3,
        )
        model_class.from_config(config).save_pretrained(tmp_path / "model")
        tiny_tokenizer.save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return save


def test_all_are_tested():
    assert {*CONFIGS, "bert"} == NAMES.keys()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("choices", [False, True])
def test_it_answers_as_pytorch_does(kind, choices, saved, tmp_path, sentences):
    source = saved(*CONFIGS[kind], AutoModelForMultipleChoice if choices else AutoModelForSequenceClassification)
    (tmp_path / "out").mkdir()
    exporter = Exporter(source)
    exporter.write(tmp_path / "out", None)
    assert exporter.check(tmp_path / "out") < 1e-4
    assert read_manifest(tmp_path / "out").inputs == ("input_ids", "attention_mask")
    if choices:
        examples = [Example(text, choices=tuple(sentences[i : i + 3])) for i, text in enumerate(sentences[:20])]
    else:
        examples = [Example(text, other) for text, other in zip(sentences[:20], sentences[20:40], strict=True)]
        examples += [Example(text) for text in sentences[:20]]
    ours, theirs = Predictor(str(tmp_path / "out")), Predictor(source)
    expected = theirs.logits(examples)
    assert expected.std(0).min() > 0.01
    np.testing.assert_allclose(ours.logits(examples), expected, atol=1e-4)
    assert ours.cut == theirs.cut


def test_another_architecture(saved, tmp_path):
    source = saved(ElectraConfig, {**_TINY, "embedding_size": 16}, AutoModelForSequenceClassification)
    with pytest.raises(BortError, match="must be one of bert, camembert, distilbert, roberta, xlm-roberta"):
        Exporter(source)
    pytest.importorskip("openvino")
    (tmp_path / "out").mkdir()
    exporter = Exporter(source, "openvino")
    exporter.write(tmp_path / "out", None)
    assert exporter.check(tmp_path / "out") < 1e-4
    assert exporter.form.blocks == ("layer.0", "layer.1")
