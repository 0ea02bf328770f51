"""`bort info`: what is counted, what is claimed, and models that are broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import BertModel, DistilBertConfig

from bort.model.config import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets(bort, name):
    done = bort("info", name, "--json")
    assert (done.status, done.err, done.out.count("\n")) == (0, "", 1)
    said = json.loads(done.out)
    preset = PRESETS[name]
    shape = (said["depth"], said["heads"], said["hidden"], said["intermediate"])
    assert shape == (preset.depth, preset.heads, preset.hidden, preset.intermediate)
    layer = 4 * (preset.hidden + 1) * preset.hidden + 2 * preset.hidden * preset.intermediate
    layer += preset.intermediate + preset.hidden + 4 * preset.hidden
    words = (preset.vocab_size + preset.positions + 1 + 2) * preset.hidden
    assert said["parameters"] == {
        "embeddings": words,
        "encoder": preset.depth * layer,
        "total": words + preset.depth * layer,
    }
    assert ("claims" in said) == (name == "bort")


def test_claims_stand_apart_from_what_is_counted(bort):
    done = bort("info", "bort")
    assert "claims" in done.out
    assert "arXiv 2010.10499" in done.out
    assert f"{PRESETS['bort'].vocab_size:,}" in done.out
    assert "claim" not in bort("info", "bort-768").out


def test_a_folder(bort, classifier, world):
    said = json.loads(bort("info", classifier, "--json").out)
    assert said["labels"] == ["cat", "other", 'a, "b"']
    model = BertModel.from_pretrained(classifier, add_pooling_layer=False)
    assert said["parameters"]["total"] == sum(weights.numel() for weights in model.parameters())
    assert "claims" not in said
    done = bort("info", classifier)
    assert 'cat, other, a, "b"' in done.out
    assert "labels" not in json.loads(bort("info", world.encoder, "--json").out)


def test_labels_with_brackets_are_no_markup(bort, classifier, tmp_path):
    folder = changed(classifier, tmp_path, id2label={"0": "[/red]", "1": "[bold]", "2": ":cat:"})
    assert "[/red], [bold], :cat:" in bort("info", folder).out


def test_labels_have_the_order_of_their_numbers(bort, classifier, tmp_path):
    folder = changed(classifier, tmp_path, id2label={"10": "ten", "2": "two", "0": "zero"})
    assert json.loads(bort("info", folder, "--json").out)["labels"] == ["zero", "two", "ten"]


def changed(classifier: str, tmp_path: Path, content: bytes | None = None, **changes) -> Path:
    folder = tmp_path / "changed"
    shutil.copytree(classifier, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config = {name: value for name, value in (config | changes).items() if value is not ...}
    (folder / "config.json").write_bytes(json.dumps(config).encode() if content is None else content)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": ...},
        {"model_type": "nosuch"},
        {"hidden_size": "x"},
        {"num_attention_heads": 5},
        {"max_position_embeddings": "64"},
        {"id2label": ["a", "b"]},
        {"content": b"["},
        {"content": b"[]"},
        {"content": b"null"},
        {"content": b"\xff\xfe"},
        {"content": b""},
    ],
    ids=str,
)
def test_a_broken_configuration(bort, classifier, tmp_path, changes):
    folder = changed(classifier, tmp_path, **changes)
    bort("info", folder).refused(folder)
    bort("predict", "--model", folder, stdin=b"a\n").refused(folder)


def test_what_is_no_model(bort, tmp_path):
    (tmp_path / "file").write_text("x")
    bort("info", "nosuch").refused("'nosuch'", "embedded model")
    bort("info", tmp_path / "none").refused("none", "no such folder")
    bort("info", tmp_path).refused(tmp_path, "no config.json")
    bort("info", tmp_path / "file").refused("file", "is a file")
    bort("info", "").refused("names no model")
    DistilBertConfig().save_pretrained(tmp_path)
    bort("info", tmp_path).refused("model_type", "'distilbert'", "BERT")


@pytest.mark.parametrize("model", ["bort", "bort-nano"])
def test_nothing_heavy_is_loaded(model, python):
    code = (
        f"import sys\nfrom bort.__main__ import main\nassert main(['info', '{model}']) == 0\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "[]"
