"""A teacher that reads the student's own ids, beside it, where the student's vocabulary is a part of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertModel, BertTokenizerFast

from bort.errors import BortError
from bort.model.tokenization import load_tokenizer
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.predict.sentence_folder import write_sentence_files
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary, TeacherBeside
from bort.pretraining.distill.targets import EmbeddingTargets
from bort.pretraining.pretrain import pretrain
from bort.pretraining.taught_rows import Collator

DROPPED = ("##ks", "walked", "##tt")


@pytest.fixture
def teacher(teacher_folder) -> EmbeddingTeacher:
    return EmbeddingTeacher(teacher_folder, torch.device("cpu"))


@pytest.fixture
def cut(teacher, tmp_path) -> BertTokenizerFast:
    """The teacher's tokenizer without a few words, which are spelt, and in another order."""
    described = json.loads(teacher.tokenizer.backend_tokenizer.to_str())
    ordered = sorted(described["model"]["vocab"], key=described["model"]["vocab"].get)
    kept = [*ordered[:5], *(entry for entry in reversed(ordered[5:]) if entry not in DROPPED)]
    assert len(kept) < len(ordered)
    (tmp_path / "vocab.txt").write_text("\n".join(kept), "utf-8")
    return BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True)


def test_ids_are_carried_over(teacher, cut, tiny_tokenizer):
    shared = SharedVocabulary.of(cut, teacher.tokenizer)
    text = "The old baker sold a broken clock."
    assert shared.teacher_ids[cut(text).input_ids].tolist() == teacher.tokenizer(text).input_ids
    assert SharedVocabulary.of(tiny_tokenizer, teacher.tokenizer) is None
    assert SharedVocabulary.of(teacher.tokenizer, cut) is None  # it has words that this one lacks


def test_beside_and_kept_are_the_same(teacher, cut):
    """The same vectors of rows of two lengths, from masked batches too, and the library's of the text."""
    shared = SharedVocabulary.of(cut, teacher.tokenizer)
    texts = ["The old baker sold a broken clock.", "My sister sold café tables."]
    rows = [{"input_ids": np.array(ids), "number": n} for n, ids in enumerate(cut(texts).input_ids)]
    kept = EmbeddingTargets(teacher, shared, (1, 2), "float32").answers(rows, 0)
    np.testing.assert_allclose(np.concatenate([one["pooled"] for one in kept]), teacher.encode(texts)[0], atol=1e-5)
    expected = Collator(cut.pad_token_id)([row | answers for row, answers in zip(rows, kept, strict=True)])
    batch = Collator(cut.pad_token_id)(rows)
    batch["labels"] = torch.full_like(batch["input_ids"], -100)
    batch["labels"][0, 2], batch["input_ids"][0, 2] = int(batch["input_ids"][0, 2]), cut.mask_token_id
    found = TeacherBeside(teacher, shared, (1, 2)).answer(batch)
    assert found.keys() == {"pooled", "ordinary", "layer_1", "layer_2"}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kept", [False, True], ids=["beside", "kept"])
def test_an_inherited_student_comes_near(world, teacher, cut, tmp_path, sentences, kept):
    """One of the teacher's two layers, and its words: the saved model's own mean and first token are drawn to it."""
    cut.save_pretrained(tmp_path / "cut")
    settings = world.pretraining(
        tmp_path,
        tokenizer=str(tmp_path / "cut"),
        architecture=shape(tmp_path, depth=1),
        init_from=teacher.source,
        embedding_teacher=teacher.source,
        teacher_cache=str(tmp_path / "cache") if kept else None,
        rows="sentences",
        pooling="both",
        token_weight=1.0,
        max_steps=60,
        batch_size=8,
        learning_rate=3e-3,
        dropout=0.0,
        distinct_rows=64,
    )
    metrics = pretrain(settings)
    assert metrics["validation_distance"] < 0.5 * metrics["initial_distance"]
    asked = {
        folder.name
        for folder in Path(settings.teacher_cache or settings.out, *(() if kept else ("teacher",))).iterdir()
    }
    assert asked == ({"held-out", "embeddings"} if kept else {"held-out"})
    saved, tokenizer = AutoModel.from_pretrained(settings.out).eval(), load_tokenizer(settings.out)
    assert isinstance(saved, BertModel)
    theirs = torch.from_numpy(teacher.encode(sentences)[0])
    with torch.no_grad():
        states = [saved(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in sentences]
    for ours in (torch.stack([one.mean(0) for one in states]), torch.stack([one[0] for one in states])):
        apart = 1 - torch.nn.functional.cosine_similarity(ours, theirs).mean()
        assert apart < 0.6 * metrics["initial_distance"]


def shape(folder: Path, **changes: int) -> str:
    described = {"depth": 2, "heads": 2, "hidden": 12, "intermediate": 24, "positions": 64}
    (folder / "shape.json").write_text(json.dumps(described | changes), "utf-8")
    return str(folder / "shape.json")


def test_the_start_is_the_teacher_where_nothing_is_cut(world, teacher, tmp_path):
    settings = world.pretraining(
        tmp_path,
        tokenizer=teacher.source,
        architecture=shape(tmp_path),
        init_from=teacher.source,
        embedding_teacher=teacher.source,
        rows="sentences",
        max_steps=1,
        learning_rate=1e-9,
    )
    assert pretrain(settings)["initial_distance"] == pytest.approx(0.0, abs=1e-5)
    assert pretrain(replace(settings, out=str(tmp_path / "first"), pooling="first"))["initial_distance"] > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": None}, "its vocabulary must hold all of --tokenizer's"),
        ({"architecture": {"depth": 3}}, "layers"),
        ({"init": "bort-nano"}, "--init-from: value .*: cannot be combined with --init"),
        ({"words_from_teacher": True}, "is for random weights"),
    ],
    ids=["vocabulary", "depth", "init", "words"],
)
def test_what_cannot_be_inherited(world, teacher_folder, tmp_path, change, message):
    given = {"tokenizer": teacher_folder, "architecture": {}, "embedding_teacher": teacher_folder} | change
    given |= {
        "tokenizer": given["tokenizer"] or world.tokenizer,
        "architecture": shape(tmp_path, **given["architecture"]),
    }
    with pytest.raises(BortError, match=message):
        pretrain(world.pretraining(tmp_path, init_from=teacher_folder, max_steps=1, **given))
    assert (tmp_path / "corpus").exists() == ("architecture" in change), "the rest is known before"


@pytest.mark.parametrize("settings", [{"prompt": "The grey cat "}, {"lowercase": True}, {"max_length": 16}])
def test_a_teacher_that_reads_texts_otherwise_is_given_texts(world, tmp_path, settings):
    folder = shutil.copytree(world.encoder, tmp_path / "teacher")
    write_sentence_files(folder, 16, **{"max_length": 64} | settings)
    teaching = {"embedding_teacher": str(folder), "rows": "sentences", "distinct_rows": 8, "batch_size": 4}
    given = world.pretraining(tmp_path, max_steps=1, **teaching)
    pretrain(given)
    kept = json.loads(Path(given.out, "teacher", "embeddings", "cache.json").read_text("utf-8"))
    assert kept["key"]["lesson"] == "embeddings"


def test_texts_are_not_given_back_by_wordpiece(world, teacher_folder, tmp_path):
    folder = str(shutil.copytree(teacher_folder, tmp_path / "teacher"))
    write_sentence_files(folder, 12, 64, lowercase=True)
    settings = world.pretraining(tmp_path, tokenizer=folder, embedding_teacher=folder, rows="sentences", max_steps=1)
    pretrain(settings)  # the tokenizer lowercases anyway
    write_sentence_files(folder, 12, 64, prompt="The grey cat ")
    with pytest.raises(BortError, match="puts the prompt 'The grey cat ' before each text, so it must be given texts"):
        pretrain(replace(settings, out=str(tmp_path / "prompted")))
