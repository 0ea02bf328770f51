"""The name map reads both ways, for every parameter of both kinds of file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.errors import BortError
from bort.model.convert.mxnet import read_params
from bort.model.convert.weight_names import MODULES, gluon_to_hf, hf_to_gluon, is_classifier

GOLDEN = Path(__file__).parent / "golden"
"""Checkpoints of the original code, and what it computed with them."""

PAIRS = [
    ("word_embed.0.weight", "bert.embeddings.word_embeddings.weight"),
    ("encoder.position_weight", "bert.embeddings.position_embeddings.weight"),
    ("encoder.layer_norm.gamma", "bert.embeddings.LayerNorm.weight"),
    ("encoder.layer_norm.beta", "bert.embeddings.LayerNorm.bias"),
    (
        "encoder.transformer_cells.0.attention_cell.proj_query.weight",
        "bert.encoder.layer.0.attention.self.query.weight",
    ),
    ("encoder.transformer_cells.11.attention_cell.proj_key.bias", "bert.encoder.layer.11.attention.self.key.bias"),
    ("encoder.transformer_cells.1.attention_cell.proj_value.bias", "bert.encoder.layer.1.attention.self.value.bias"),
    ("encoder.transformer_cells.2.proj.weight", "bert.encoder.layer.2.attention.output.dense.weight"),
    ("encoder.transformer_cells.2.layer_norm.gamma", "bert.encoder.layer.2.attention.output.LayerNorm.weight"),
    ("encoder.transformer_cells.3.ffn.ffn_1.weight", "bert.encoder.layer.3.intermediate.dense.weight"),
    ("encoder.transformer_cells.3.ffn.ffn_2.bias", "bert.encoder.layer.3.output.dense.bias"),
    ("encoder.transformer_cells.3.ffn.layer_norm.beta", "bert.encoder.layer.3.output.LayerNorm.bias"),
    ("decoder.0.weight", "cls.predictions.transform.dense.weight"),
    ("decoder.2.gamma", "cls.predictions.transform.LayerNorm.weight"),
    ("decoder.3.weight", "cls.predictions.decoder.weight"),
    ("decoder.3.bias", "cls.predictions.bias"),
    ("classifier.1.weight", "bert.pooler.dense.weight"),
    ("classifier.3.bias", "classifier.bias"),
]


@pytest.mark.parametrize(("gluon", "hf"), PAIRS)
def test_translates_both_ways(gluon, hf):
    assert gluon_to_hf(gluon) == hf
    assert hf_to_gluon(hf) == gluon


@pytest.mark.parametrize(("gluon", "hf"), PAIRS)
def test_a_classifier_file_names_its_encoder_with_a_prefix(gluon, hf):
    named = f"bort.{gluon}" if gluon.startswith(("word_embed", "encoder")) else gluon
    assert gluon_to_hf(named) == hf
    assert hf_to_gluon(hf, classifier=True) == named


@pytest.mark.parametrize("kind", ["mlm", "cls"])
def test_every_name_of_the_original_code_round_trips(kind):
    names = list(read_params(GOLDEN / f"gluon-tiny.{kind}.params"))
    classifier = is_classifier(names)
    assert classifier == (kind == "cls")
    assert [hf_to_gluon(gluon_to_hf(name), classifier=classifier) for name in names] == names


def test_the_table_has_no_name_twice():
    gluon, hf = zip(*MODULES, strict=True)
    assert len(set(gluon)) == len(set(hf)) == len(MODULES)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "encoder.layer_norm.weight",
        "encoder.transformer_cells.01.proj.weight",
        "encoder.transformer_cells.-1.proj.weight",
        "encoder.transformer_cells.².proj.weight",
        "encoder.transformer_cells.{}.proj.weight",
        "encoder.transformer_cells.99999.proj.weight",
        "encoder.transformer_cells.0.proj.weight\n",
        "word_embed.0.bias",
        "token_type_embed.0.weight",
        "bort.classifier.1.weight",
        "bert.embeddings.token_type_embeddings.weight",
    ],
)
def test_refuses_other_names(name):
    with pytest.raises(BortError, match="not the name of a parameter"):
        gluon_to_hf(name)
    with pytest.raises(BortError, match="not the name of a parameter"):
        hf_to_gluon(name)
