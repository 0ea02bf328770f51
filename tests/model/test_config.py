"""Shapes: their counted sizes are those of the built model, and a bad file is refused by name."""

from __future__ import annotations

import json

import pytest

from bort.errors import BortError
from bort.model.config import BERT_LARGE_ENCODER, PRESETS, Size, architecture, count_parameters
from bort.model.modelling import BortForMaskedLM

OURS = {"depth": 3, "heads": 2, "hidden": 8, "intermediate": 12, "vocab_size": 300, "positions": 20}
THEIRS = {
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "vocab_size": 300,
    "max_position_embeddings": 20,
}


def write(path, fields) -> None:
    path.write_text(fields if isinstance(fields, str) else json.dumps(fields))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_count_is_that_of_the_built_model(preset):
    config = architecture(preset, vocab_size=300)
    model = BortForMaskedLM(config).bert
    size = count_parameters(config)
    assert size.embeddings == sum(p.numel() for p in model.embeddings.parameters())
    assert size.encoder == sum(p.numel() for p in model.encoder.parameters())
    assert size.total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("preset", "size"), [("bort", Size(51_998_720, 23_108_608)), ("bort-768", Size(38_999_040, 15_760_384))]
)
def test_known_sizes(preset, size):
    assert count_parameters(architecture(preset)) == size
    assert size.total == size.embeddings + size.encoder


def test_the_yardstick_is_bert_larges_encoder(tmp_path):
    file = tmp_path / "large.json"
    write(file, {"depth": 24, "heads": 16, "hidden": 1024, "intermediate": 4096})
    assert count_parameters(architecture(file)).encoder == BERT_LARGE_ENCODER


def test_a_preset_is_the_released_model():
    config = architecture("bort")
    shape = (config.num_hidden_layers, config.num_attention_heads, config.hidden_size, config.intermediate_size)
    assert shape == (4, 8, 1024, 768)
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (50_265, 512, 1)
    assert (config.layer_norm_eps, config.mlm_layer_norm_eps, config.type_vocab_size) == (1e-5, 1e-12, 1)
    assert config.model_type == "bert"
    assert architecture("bort", vocab_size=777, pad_token_id=3).to_diff_dict() == {
        **config.to_diff_dict(),
        "vocab_size": 777,
        "pad_token_id": 3,
    }


@pytest.mark.parametrize("fields", [OURS, THEIRS])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_both_styles_of_keys(tmp_path, fields, place):
    file = tmp_path / "config.json"
    write(file, fields)
    config = architecture(file if place == "file" else tmp_path)
    assert {key: getattr(config, key) for key in THEIRS} == THEIRS


def test_vocabulary_and_positions_have_defaults(tmp_path):
    file = tmp_path / "architecture.json"
    write(file, {key: OURS[key] for key in ("depth", "heads", "hidden", "intermediate")})
    config = architecture(file)
    assert (config.vocab_size, config.max_position_embeddings) == (50_265, 512)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ("{", ["must be JSON"]),
        ("[" * 100_000, ["must be JSON"]),
        ("[1]", ["must hold one JSON object"]),
        ({"heads": 2}, ["column 'depth'", "value None", "whole number above 0"]),
        ({**OURS, "depth": 0}, ["column 'depth'", "value 0"]),
        ({**OURS, "depth": True}, ["column 'depth'", "value True"]),
        ({**OURS, "intermediate": 1.5}, ["column 'intermediate'", "value 1.5"]),
        ({**OURS, "vocab_size": "many"}, ["column 'vocab_size'", "value 'many'"]),
        ({**OURS, "heads": 3}, ["column 'hidden'", "value 8", "divisible by the 3 heads"]),
        ({**THEIRS, "num_attention_heads": 3}, ["column 'hidden_size'", "value 8", "divisible by the 3 heads"]),
        ({**THEIRS, "max_position_embeddings": -1}, ["column 'max_position_embeddings'", "value -1"]),
    ],
)
def test_bad_files(tmp_path, fields, parts):
    file = tmp_path / "architecture.json"
    write(file, fields)
    with pytest.raises(BortError) as caught:
        architecture(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert all(part in message for part in parts), message


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BortError, match=r"a\.json: must be JSON"):
        architecture(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["bort-9000", "absent/architecture.json", ""])
def test_an_unknown_name_lists_the_presets(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BortError, match=r"neither a preset \(bort, bort-2-16-1024-512, bort-768, nano\) nor a file"):
        architecture(name)


@pytest.mark.parametrize("name", PRESETS)
def test_the_closed_form_is_what_is_counted(name):
    assert PRESETS[name].size() == count_parameters(architecture(name))
