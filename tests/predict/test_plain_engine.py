"""A folder of `bort finetune` answers without PyTorch as with it; what else a folder may be is left to PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bort.data.tables.examples import Example
from bort.predict import plain_engine
from bort.predict.classifiers import fitting_tokenizer, save_classifier
from bort.predict.engine import open_engine
from bort.predict.graph.architectures import NAMES
from bort.predict.plain_engine import PlainEngine, open_plain
from bort.predict.torch_engine import TorchEngine

_TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_ROBERTA = {**_TINY, "type_vocab_size": 1, "max_position_embeddings": 44, "hidden_act": "gelu"}
SETTINGS = {
    "bert": {**_TINY, "hidden_act": "gelu_new", "max_position_embeddings": 40},
    "camembert": _ROBERTA,
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2},
    "roberta": _ROBERTA,
    "xlm-roberta": {**_ROBERTA, "type_vocab_size": 2},
}


@pytest.fixture
def saved(tiny_tokenizer, tmp_path, monkeypatch):
    """Save a random classifier as `bort finetune` does."""
    monkeypatch.setattr(plain_engine, "may_have_gpu", lambda: False)

    def save(kind: str = "bert", head: str = "SequenceClassification", max_length: int = 30, **settings) -> Path:
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(
            kind,
            **SETTINGS[kind],
            vocab_size=len(tiny_tokenizer),
            pad_token_id=tiny_tokenizer.pad_token_id,
            initializer_range=0.5,
            **{"id2label": {0: "b", 1: "a", 2: "c"}, "problem_type": "single_label_classification", **settings},
        )
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
        model.save_pretrained(tmp_path / "first")
        tiny_tokenizer.save_pretrained(tmp_path / "first")
        tokenizer = fitting_tokenizer(str(tmp_path / "first"), model)
        save_classifier(model, tokenizer, tmp_path / "model", max_length, bort_metric="accuracy", bort_pairs=False)
        return tmp_path / "model"

    return save


def same(folder: Path, examples: list[Example]) -> None:
    plain, torchs = open_plain(str(folder), 1), TorchEngine(str(folder))
    assert plain is not None
    for name in ("task", "max_length", "pairs", "cast", "thresholds"):
        assert getattr(plain, name) == getattr(torchs, name), name
    encoded, theirs = plain.encode(examples), torchs.encode(examples)
    assert encoded == theirs
    found = plain.run(encoded)
    assert np.ptp(found, axis=0).max() > 0.1, "the answers should differ, or the test says nothing"
    np.testing.assert_allclose(found, torchs.run(theirs), atol=1e-4)


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_answers_as_pytorch_does(kind, saved, sentences):
    texts = ["", "a", "word " * 60, *sentences[:20]]
    same(saved(kind), [*map(Example, texts), *(Example(text, other) for text in texts for other in texts[:4])])


@pytest.mark.parametrize("max_length", [5, 38, 1000])
def test_takes_what_the_model_takes(max_length, saved):
    same(saved("roberta", max_length=max_length), [Example(f"{count} words " * count) for count in (1, 5, 60)])


def test_takes_what_a_cross_encoders_folder_says(saved):
    folder = saved()
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    same(folder, [Example(f"{count} words " * count) for count in (1, 5, 60)])
    assert open_plain(str(folder)).max_length == 9


def test_choices_and_numbers(saved, sentences):
    same(saved(head="MultipleChoice"), [Example(text, choices=("yes", "no " * 50, text)) for text in sentences[:9]])


def test_a_regression(saved, sentences):
    folder = saved(id2label={0: "LABEL_0"}, problem_type="regression")
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"bort_metric": "pearson"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    same(folder, [*map(Example, sentences[:9])])


@pytest.mark.parametrize("side", ["left", "right"])
def test_is_cut_where_the_folder_says(side, saved, sentences):
    folder = saved()
    edit(folder / "tokenizer_config.json", truncation_side=side)
    same(folder, [Example(" ".join(sentences[:count])) for count in range(1, 9)])


def edit(file: Path, **settings) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), "utf-8")


def half(folder: Path) -> None:
    weights = {name: values.half() for name, values in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def eighth(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: values.to(torch.float8_e4m3fn) for name, values in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def short(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("bert.pooler.dense.bias")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def foreign(folder: Path) -> None:
    described = json.loads((folder / "config.json").read_text("utf-8"))
    described.pop("bort_metric")
    (folder / "config.json").write_text(json.dumps(described), "utf-8")


def panicking(folder: Path) -> None:
    described = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    described["post_processor"]["special_tokens"].pop("</s>")
    (folder / "tokenizer.json").write_text(json.dumps(described), "utf-8")


OTHERS = {
    "of somebody else": foreign,
    "in half precision": half,
    "in a precision that numpy lacks": eighth,
    "lacks a weight": short,
    "damaged": lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 40),
    "folds case by a setting": lambda folder: edit(folder / "tokenizer_config.json", do_lower_case=True),
    "adds a token": lambda folder: edit(folder / "tokenizer_config.json", sep_token="<new>"),
    "another tokenizer": lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "a broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}", "utf-8"),
    "a tokenizer whose template panics": panicking,
    "another architecture": lambda folder: edit(folder / "config.json", model_type="electra"),
    "another activation": lambda folder: edit(folder / "config.json", hidden_act="silu"),
    "other labels": lambda folder: edit(folder / "config.json", id2label={"0": "a", "1": "a", "2": "c"}),
    "half a character": lambda folder: edit(folder / "config.json", id2label={"0": "\ud800", "1": "a", "2": "c"}),
    "fewer layers": lambda folder: edit(folder / "config.json", num_hidden_layers=1),
    "a hundred million layers": lambda folder: edit(folder / "config.json", num_hidden_layers=10**8),
    "another width": lambda folder: edit(folder / "config.json", intermediate_size=32),
    "no object": lambda folder: (folder / "config.json").write_text("[]", "utf-8"),
    "no numbers": lambda folder: edit(folder / "config.json", num_hidden_layers="2"),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_all_else_is_left_to_pytorch(change, saved):
    folder = saved()
    assert open_plain(str(folder)) is not None
    change(folder)
    assert open_plain(str(folder)) is None


def test_no_other_file_of_the_folder_is_read(saved, python):
    folder = saved()
    (folder / "x.onnx.data").symlink_to("/dev/zero")
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))  # rather than all of the machine's memory
from bort.predict import plain_engine
plain_engine.may_have_gpu = lambda: False
assert plain_engine.open_plain({str(folder)!r}, 1) is not None
"""
    python(code)


def test_a_gpu_is_not_left_idle(saved, monkeypatch):
    folder = str(saved())
    assert isinstance(open_engine(folder), PlainEngine)
    monkeypatch.setattr(plain_engine, "may_have_gpu", lambda: True)
    assert isinstance(open_engine(folder), TorchEngine)


def test_neither_torch_nor_transformers_is_loaded(saved, python):
    code = f"""
import sys
from bort.predict import plain_engine
plain_engine.may_have_gpu = lambda: False
from bort.__main__ import main
from bort.serve.model import ServedModel, Limits
folder = {str(saved())!r}
main(["predict", "--model", folder, "--threads", "1"])
served = ServedModel("a", folder, Limits(), threads=1)
print(sorted({{"torch", "transformers", "datasets", "sklearn", "scipy", "pandas"}} & sys.modules.keys()))
"""
    row, heavy = python(code, input="a text\n").stdout.splitlines()
    assert '"prediction"' in row
    assert heavy == "[]"
