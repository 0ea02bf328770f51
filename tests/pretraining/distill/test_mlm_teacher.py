"""Masked LMs as teachers: which are refused, and that a padded word embedding changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForPreTraining

from bort.errors import BortError
from bort.model.checkpoints import load, save
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.targets import LogitTargets
from bort.pretraining.pretrain import pretrain

CPU = torch.device("cpu")


@pytest.fixture
def padded(world, tiny_tokenizer, tmp_path) -> str:
    """The tiny encoder with 48 more rows in its word embedding, which it finds more probable than any token."""
    model = load(BortForMaskedLM, world.encoder)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tiny_tokenizer) + 48)
    with torch.no_grad():
        model.cls.predictions.bias[len(tiny_tokenizer) :] = 50.0
    save(model, tiny_tokenizer, tmp_path / "padded")
    return str(tmp_path / "padded")


def test_rows_after_the_vocabulary_are_left_out(world, padded, tiny_tokenizer):
    vocabulary = tiny_tokenizer.get_vocab()
    teacher, plain = (MaskedLMTeacher(folder, vocabulary, CPU) for folder in (padded, world.encoder))
    ids = torch.randint(5, 300, (3, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, IGNORED)
    labels[0, 3], labels[2, 7] = 9, 11
    torch.testing.assert_close(teacher.logits(ids, labels), plain.logits(ids, labels))
    rows = [{"input_ids": row.numpy(), "labels": own.numpy()} for row, own in zip(ids, labels, strict=True)]
    kept, expected = (LogitTargets(one, 10**6, 0, 2.0, "float32", 1) for one in (teacher, plain))
    assert kept.fields == expected.fields
    for one, other in zip(kept.answers(rows, 0), expected.answers(rows, 0), strict=True):
        assert np.array_equal(one["ids"], other["ids"])


@pytest.mark.parametrize("change", ["live", "cached", "padded student"])
def test_a_padded_teacher_teaches(world, padded, tmp_path, change):
    settings = world.pretraining(tmp_path, teacher=padded, max_steps=2, batch_size=4)
    if change == "cached":
        settings = replace(settings, teacher_cache=str(tmp_path / "cache"))
    if change == "padded student":
        settings = replace(settings, init=padded, architecture="nano")
    assert pretrain(settings)["steps"] == 2


def test_fewer_rows_than_the_vocabulary_are_refused(world, tiny_tokenizer, tmp_path):
    model = load(BortForMaskedLM, world.encoder)
    model.resize_token_embeddings(len(tiny_tokenizer) - 1)
    save(model, tiny_tokenizer, tmp_path / "short")
    with pytest.raises(BortError, match="value 399: must have logits for the 400 entries of its vocabulary"):
        MaskedLMTeacher(str(tmp_path / "short"), tiny_tokenizer.get_vocab(), CPU)


@pytest.mark.parametrize("named", [["BertForMaskedLM"], ["BertForPreTraining"], None])
@pytest.mark.parametrize("left", [0, 2])
def test_a_head_that_is_not_in_the_weights_is_refused(world, tiny_tokenizer, tmp_path, named, left):
    """Its name in config.json is no head, and a part of it would be filled up with random numbers."""
    folder = tmp_path / "headless"
    save(load(BortForMaskedLM, world.encoder), tiny_tokenizer, folder, architectures=named)
    assert MaskedLMTeacher(str(folder), tiny_tokenizer.get_vocab(), CPU).size == 400
    weights = load_file(folder / "model.safetensors")
    for name in sorted(name for name in weights if name.startswith("cls."))[left:]:
        weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BortError, match="holds no masked-LM head"):
        MaskedLMTeacher(str(folder), tiny_tokenizer.get_vocab(), CPU)


def test_a_next_sentence_head_beside_it_does_no_harm(world, tiny_config, tiny_tokenizer, tmp_path):
    torch.manual_seed(0)
    save(BertForPreTraining(tiny_config), tiny_tokenizer, tmp_path / "both")
    assert json.loads((tmp_path / "both" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    teacher = MaskedLMTeacher(str(tmp_path / "both"), tiny_tokenizer.get_vocab(), CPU)
    expected = load(BertForPreTraining, tmp_path / "both").cls.predictions.transform.dense.weight
    assert torch.equal(teacher.model.cls.predictions.transform.dense.weight, expected)
