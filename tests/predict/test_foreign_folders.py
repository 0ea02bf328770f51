"""Models of other people: what their folders say of pairs, truncation, kinds of tokens and added tokens holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, RobertaConfig, RobertaTokenizer

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.finetuning.fitter import Fitter
from bort.finetuning.hyper_parameters import TrainingLimits
from bort.predict.classifiers import new_classifier
from bort.predict.predictor import Predictor
from bort.tasks.classification import Classification

_TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 3}
_INPUTS = [
    "The old baker sold a broken clock.",
    ("The old baker", "sold seven green apples"),
    ("a", ""),
    "word " * 80,
    ("word " * 50, "a"),
    "The CAT zipseam",
    "x <pad> y </s> z [PAD] w",
]


def saved(folder, config, tokenizer) -> str:
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def roberta(tiny_tokenizer, tmp_path) -> str:
    """Two separators, two added tokens, positions behind the padding id."""
    described = json.loads(tiny_tokenizer.backend_tokenizer.to_str())["model"]
    tokenizer = RobertaTokenizer(vocab=described["vocab"], merges=[tuple(pair) for pair in described["merges"]])
    tokenizer.add_tokens(["zipseam", "ZIPCODE"])
    config = RobertaConfig(
        **_TINY, vocab_size=len(tokenizer), pad_token_id=1, type_vocab_size=1, max_position_embeddings=42,
        initializer_range=0.5,
    )  # fmt: skip
    return saved(tmp_path / "roberta", config, tokenizer)


@pytest.fixture
def left(teacher_folder, tmp_path) -> str:
    """BERT with a tokenizer that keeps the end of a text, and that was saved while it cut and padded to 12."""
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder, truncation_side="left", padding_side="left")
    tokenizer.add_tokens(["zipseam"])
    tokenizer.backend_tokenizer.enable_truncation(12)
    tokenizer.backend_tokenizer.enable_padding(length=12, direction="left")
    config = BertConfig(**_TINY, vocab_size=len(tokenizer), max_position_embeddings=32, initializer_range=0.5)
    return saved(tmp_path / "left", config, tokenizer)


@pytest.fixture
def one_kind(teacher_folder, tmp_path) -> str:
    """RoBERTa with BERT's tokenizer (klue/roberta): it tells two kinds of tokens, and the model knows one."""
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    config = RobertaConfig(
        **_TINY, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, type_vocab_size=1,
        max_position_embeddings=40, initializer_range=0.5,
    )  # fmt: skip
    return saved(tmp_path / "one_kind", config, tokenizer)


def theirs(folder: str, length: int) -> np.ndarray:
    """What transformers answers, one input at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for given in _INPUTS:
        texts = [given] if isinstance(given, str) else [[given[0]], [given[1]]]
        encoded = tokenizer(*texts, truncation="longest_first", max_length=length, padding=False)
        ids = encoded["input_ids"] if isinstance(given, str) else encoded["input_ids"][0]
        inputs = {"input_ids": torch.tensor([ids])}
        if model.config.type_vocab_size > 1:
            types = encoded["token_type_ids"] if isinstance(given, str) else encoded["token_type_ids"][0]
            inputs["token_type_ids"] = torch.tensor([types])
        with torch.no_grad():
            rows.append(model(**inputs).logits[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize(("kind", "length"), [("roberta", 40), ("left", 32), ("one_kind", 39)])
def test_answers_are_those_of_transformers(request, kind, length, engine, tmp_path):
    folder = model = request.getfixturevalue(kind)
    if engine != "torch":
        pytest.importorskip(engine)
        exporter, model = Exporter(folder, engine), str(tmp_path / "exported")
        (tmp_path / "exported").mkdir()
        exporter.write(tmp_path / "exported", None)
        assert exporter.check(tmp_path / "exported") < 1e-4
    predictor = Predictor(model)
    assert predictor.max_length == length
    expected = theirs(folder, length)
    examples = [Example(given) if isinstance(given, str) else Example(*given) for given in _INPUTS]
    np.testing.assert_allclose(predictor.logits(examples), expected, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([predictor.logits([e]) for e in examples]), expected, atol=1e-4)
    assert predictor.cut == 4
    assert np.ptp(expected, axis=0).min() > 0.1, "the answers should differ, or the test says nothing"


def test_tokens_without_a_row_in_the_model_are_refused(teacher_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    config = BertConfig(**_TINY, vocab_size=len(tokenizer))
    rows = len(tokenizer)
    tokenizer.add_tokens(["xyzzy"])
    folder = saved(tmp_path / "m", config, tokenizer)
    with pytest.raises(BortError, match=f"{rows + 1} ids, the model's word embedding {rows} rows"):
        Predictor(folder)


def test_finetuning_checks_the_tokenizer_too(one_kind, teacher_folder, tmp_path):
    task = Classification(("a", "b"), "f1")
    examples = [Example("a text", "its pair", label="a")]
    limits = TrainingLimits(max_epochs=1, max_steps=None, patience=1, eval_steps=None, checkpoint_seconds=60)
    fitter = Fitter(one_kind, task, examples, max_length=32, limits=limits)
    assert fitter.labelled(examples).encoded.columns.keys() == {"input_ids"}
    fitter.save(new_classifier(one_kind, task), tmp_path / "out")
    predictor = Predictor(str(tmp_path / "out"))
    assert (predictor.task.metric, predictor.engine.pairs) == ("f1", True)
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    config = BertConfig(**_TINY, vocab_size=len(tokenizer))
    tokenizer.pad_token = None
    folder = saved(tmp_path / "no-padding", config, tokenizer)
    with pytest.raises(BortError, match="no padding token"):
        Fitter(folder, task, examples, max_length=32, limits=limits)
