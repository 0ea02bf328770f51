"""`bort shrink`: a smaller encoder in a folder that others open, or a clear no."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertForPreTraining,
    RobertaConfig,
    RobertaModel,
)

from bort.model.checkpoints import save
from bort.model.tokenization import load_tokenizer
from bort.predict.encoder import Encoder
from bort.predict.sentence_folder import write_sentence_files
from bort.predict.sentence_modules import read_modules


@pytest.fixture
def corpus(tmp_path, sentences):
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(sentences[:60]) + "\n", "utf-8")
    return file


def states(folder, text):
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state


def test_all_of_it_is_the_same_in_fewer_entries(bort, world, corpus, tmp_path, sentences):
    done = bort("shrink", world.encoder, "--corpus", corpus, "--out", tmp_path / "small")
    assert (done.status, done.err) == (0, "")
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (world.encoder, tmp_path / "small"))
    assert len(after) < len(before)
    assert f"vocabulary {len(after)} (100.00 % of the corpus's tokens)" in done.out
    assert torch.allclose(states(tmp_path / "small", sentences[3]), states(world.encoder, sentences[3]), atol=1e-5)
    small = AutoModelForMaskedLM.from_pretrained(tmp_path / "small")
    assert small.get_output_embeddings().weight.shape[0] == len(after)


def test_each_part(bort, world, corpus, tmp_path):
    parts = ("--depth", 1, "--heads", 1, "--hidden", 8, "--intermediate", 12, "--dtype", "float16")
    for importance in ("weights", "batch", "even"):
        out = tmp_path / importance
        words = ("--corpus", corpus, "--vocabulary", 300, "--importance", importance, "--out", out)
        done = bort("shrink", world.encoder, *parts, *words)
        assert (done.status, done.err) == (0, "")
        assert "1 layers, 1 heads, hidden 8, intermediate 12, vocabulary 300 (" in done.out
        config = json.loads((out / "config.json").read_text())
        shape = [config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")]
        assert shape == [1, 8, 12, 300]
        assert config["model_type"] == "bert"
        assert len(load_tokenizer(out)) == 300


def test_of_a_sentence_encoder_pooling_case_and_prompt_are_kept_or_it_is_refused(bort, world, tmp_path):
    source = shutil.copytree(world.encoder, tmp_path / "sentences")
    write_sentence_files(source, 16, 32, "cls", normalizes=True, lowercase=True, prompt="The old: ")
    assert bort("shrink", source, "--out", tmp_path / "small").status == 0
    assert read_modules(str(tmp_path / "small")).described == read_modules(str(source)).described
    both = [Encoder(str(folder)).encode("Green apples ") for folder in (source, tmp_path / "small")]
    np.testing.assert_allclose(*both, atol=1e-5)
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    bort("shrink", source, "--out", tmp_path / "other").refused("'max'", "the mean over all tokens, or the first one's")
    assert not (tmp_path / "other").exists()


def test_the_head_of_a_bert_for_pre_training_stays(bort, tiny_config, tiny_tokenizer, tmp_path):
    save(BertForPreTraining(tiny_config), tiny_tokenizer, tmp_path / "both")
    assert bort("shrink", tmp_path / "both", "--depth", 1, "--out", tmp_path / "small").status == 0
    whole, small = (AutoModelForMaskedLM.from_pretrained(tmp_path / name) for name in ("both", "small"))
    for name, expected in whole.cls.state_dict().items():
        assert torch.equal(small.cls.state_dict()[name], expected)


def test_counting_a_large_corpus_is_told(bort, world, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("bort.progress._SECONDS_BETWEEN_LINES", 0.0)
    done = bort("shrink", world.encoder, "--corpus", corpus, corpus, "--out", tmp_path / "small")
    assert "counting tokens: 50 %" in done.err
    assert "counting tokens: 100 %" in done.err


def test_another_family(bort, tmp_path, tiny_tokenizer, sentences):
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=len(tiny_tokenizer), max_position_embeddings=40, **shape)
    save(RobertaModel(config), tiny_tokenizer, tmp_path / "roberta")
    assert bort("shrink", tmp_path / "roberta", "--out", tmp_path / "whole").status == 0
    assert bort("shrink", tmp_path / "roberta", "--layers", 0, 2, "--out", tmp_path / "two").status == 0
    whole, theirs = (states(tmp_path / name, sentences[0]) for name in ("whole", "roberta"))
    assert torch.allclose(whole, theirs, atol=1e-5)
    assert AutoModel.from_pretrained(tmp_path / "two").config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--layers", 0, "--depth", 1), ["depth", "--layers"]),
        (("--layers", 0, 7), ["layers must be ascending numbers of 0 to 1"]),
        (("--heads", 3), ["heads must be 1 to 2"]),
        (("--vocabulary", 300), ["vocabulary", "--corpus"]),
        (("--importance", "batch"), ["importance", "--corpus"]),
        (("--corpus", "nosuch.txt"), ["nosuch.txt", "no such file"]),
    ],
)
def test_what_cannot_be_is_refused(bort, world, tmp_path, words, parts):
    bort("shrink", world.encoder, *words, "--out", tmp_path / "small").refused(*parts)
    assert not (tmp_path / "small").exists()


def test_a_corpus_without_text_and_a_size_too_small_are_refused(bort, world, corpus, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    out = ("--out", tmp_path / "small")
    bort("shrink", world.encoder, "--corpus", empty, *out).refused("must hold text")
    bort("shrink", world.encoder, "--corpus", corpus, "--vocabulary", 100, *out).refused("100", "must be at least 261")
    (tmp_path / "small").mkdir()
    (tmp_path / "small/mine").write_text("x")
    bort("shrink", world.encoder, *out).refused("already exists")
