"""The training of bort-nano: batches that go on where they stopped, pairs as BERT reads them, edits that tell."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.nano import pack, teachers
from benchmarks.nano.losses import Heads, pair_losses, pair_targets, second_losses, single_losses
from benchmarks.nano.pairs import NOT_ASKED, Edit, Joined, Words, join, lay, lexical
from benchmarks.nano.prepare import span, write
from benchmarks.nano.rows import Rows, batches, padded
from benchmarks.nano.train import Run, Settings, Texts, encode
from transformers import AutoModel, BertModel, MPNetConfig, MPNetModel

from bort.model.tokenization import load_tokenizer

TOKENS = ["[PAD]", "[CLS]", "[SEP]", "the", "cat", "##s", "dog", "saw", "house", "green", ".", "tree", "bird"]
CLS, SEP = 1, 2


@pytest.fixture
def words():
    continues = np.array([token.startswith("##") for token in TOKENS])
    content = np.array([token in ("cat", "dog", "house", "green", "tree", "bird") for token in TOKENS])
    return Words(continues, content, np.ones(len(TOKENS), dtype=np.float32))


def test_batches_go_on_where_they_stopped():
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    settings = {"rows": 16, "tokens": 400, "window": 250, "seed": 3}
    whole = list(islice(batches(lengths, **settings), 200))
    rest = list(islice(batches(lengths, **settings, skip=70), 130))
    assert all(np.array_equal(left, right) for left, right in zip(whole[70:], rest, strict=True))
    assert all(len(batch) <= 16 and len(batch) * (lengths[batch].max() + 2) <= 400 for batch in whole)
    assert all(lengths[batch].min() > 2 for batch in whole)
    first = np.concatenate(whole[:40])
    assert len(set(first.tolist())) == len(first)


def test_an_edit_says_what_it_did(words):
    text = [3, 4, 5, 7, 3, 8, 10, 6, 7, 9]  # the cats saw the house . dog saw green
    donor = [11, 7, 12]
    rng = random.Random(0)
    for kind in Edit:
        for _ in range(50):
            edited, done = words.edit(text, donor, kind, rng)
            assert edited
            assert not words.continues[edited[0]]
            if done is Edit.ALTERED:
                assert {11, 12} & set(edited)
            else:
                assert set(edited) <= set(text)
    assert words.edit([3, 7, 10], donor, Edit.ALTERED, rng)[1] is Edit.SHORTENED


def test_pairs_are_laid_as_bert_reads_them():
    texts = [[3, 4], [6, 7, 8]]
    joined = Joined(np.array([0, 1]), np.array([1, 0]), np.array([1, 0]), np.full(2, NOT_ASKED))
    laid = lay(texts, joined, 5, CLS, SEP)
    assert laid.ids.tolist() == [[1, 3, 4, 2, 6, 7, 8, 2], [1, 6, 7, 8, 2, 3, 4, 2]]
    assert laid.types.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1]]
    assert laid.side.tolist() == [[0, 1, 1, 0, 2, 2, 2, 0], [0, 1, 1, 1, 0, 2, 2, 0]]
    alone, _ = padded(texts, CLS, SEP)  # what each place points at is the same token of the text read alone
    assert torch.equal(alone.flatten()[laid.source][:, 1:], laid.ids[:, 1:])


def test_made_up_pairs_are_no_true_ones():
    vectors = torch.nn.functional.normalize(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    joined = join(vectors, 8, [Edit.ALTERED, Edit.SHORTENED], random.Random(0))
    for p, q, related, edit in zip(joined.first, joined.second, joined.related, joined.edit, strict=True):
        low, high = sorted((int(p), int(q)))
        if related == 1:
            assert high == low + 8
        elif related == 0:
            assert low < 8 <= high < 16
            assert high != low + 8
        else:
            assert (high, low % 2, edit in (0, 1)) == (low + 1, 0, True)
    assert (joined.related == 1).sum() == 8
    assert (joined.related == 0).sum() >= 2


def test_losses_of_a_student_that_is_its_teacher_are_nothing():
    torch.manual_seed(0)
    heads = Heads(16, 24)
    mask = padded([[3, 4, 6], [7, 8]], CLS, SEP)[1]
    teacher = torch.randn(2, 5, 16)
    states = teacher.clone()
    states[:, 0] = (teacher * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    made = single_losses(states, teacher, mask)
    assert made["first"] < 1e-6
    assert made["states"] < 1e-6
    wide = torch.randn(2, 24)
    assert second_losses(states, states[:, 0], wide, mask, heads)["second first"] > 0.1
    heads.wider_first.weight.data = torch.linalg.lstsq(states[:, 0], wide).solution.T
    near = torch.nn.functional.normalize(states[:, 0], dim=-1) @ torch.nn.functional.normalize(states[:, 0], dim=-1).T
    theirs = torch.nn.functional.normalize(wide, dim=-1) @ torch.nn.functional.normalize(wide, dim=-1).T
    found = second_losses(states, states[:, 0], wide, mask, heads)["second first"].item()
    assert found == pytest.approx(float(5 * (near - theirs).pow(2).mean()), abs=1e-4)

    texts = [[3, 4, 6], [7, 8], [3, 4, 6], [7, 6]]
    joined = Joined(np.array([0, 1]), np.array([2, 3]), np.array([1, 0]), np.full(2, NOT_ASKED))
    shared = lexical(texts, joined, np.ones(len(TOKENS), dtype=np.float32))
    assert shared.tolist() == [[1, 1], [0.5, 0.5]]
    laid = lay(texts, joined, 5, CLS, SEP)
    batch = {name: getattr(laid, name) for name in ("ids", "types", "mask", "source", "side")} | {
        "first": torch.tensor([0, 1]),
        "second": torch.tensor([2, 3]),
        "related": torch.tensor([1, 0]),
        "edit": torch.tensor([NOT_ASKED, Edit.ALTERED]),
        "cosine": torch.tensor([0.5, torch.nan]),
        "lexical": shared,
    }
    unit = torch.nn.functional.normalize(torch.randn(4, 16), dim=-1)
    targets = pair_targets(torch.randn(20, 16), unit, batch)
    assert targets.matches[0, 1:4, 1].tolist() == [1, 1, 1]
    assert targets.matches[1, 1:3, 1].tolist() == [1, 0]
    cosines = (unit[:2] * unit[2:]).sum(1)  # beside mpnet's, where that is known
    assert targets.scores[:, 0].tolist() == pytest.approx([(0.5 + float(cosines[0])) / 2, float(cosines[1])])
    losses = pair_losses(targets.tokens, torch.randn(2, 16), batch, targets, heads)
    assert losses["pair states"] < 1e-6
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.fixture(scope="module")
def texts(tmp_path_factory, teacher_folder, sentences) -> Path:
    """What `prepare` writes: 600 texts and 520 pairs."""
    folder = tmp_path_factory.mktemp("texts")
    tokenizer = load_tokenizer(teacher_folder)
    tokenizer.save_pretrained(folder)
    ids = [row[:40] for row in tokenizer(sentences, add_special_tokens=False)["input_ids"]]
    rng = random.Random(0)
    for stem, count in (("singles", 600), ("pairs.a", 520), ("pairs.b", 520)):
        write(iter(rng.choices(ids, k=count)), folder / stem)
    return folder


@pytest.fixture(scope="module")
def packed_teachers(tmp_path_factory, teacher_folder) -> tuple[Path, Path]:
    """The folder that `pack` writes of a tiny MPNet and a tiny BERT, and the folder of the MPNet."""
    made, mpnet = tmp_path_factory.mktemp("packed"), tmp_path_factory.mktemp("mpnet")
    tokenizer = load_tokenizer(teacher_folder)
    tokenizer.save_pretrained(mpnet)
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=140,
        initializer_range=0.3,
    )
    MPNetModel(config).save_pretrained(mpnet)
    words = ["pack", "--teachers", str(mpnet), str(teacher_folder), "--tokenizer", str(teacher_folder)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [*words, "--out", str(made)])
        pack.main()
    return made, mpnet


@pytest.fixture
def settings(texts, packed_teachers, teacher_folder, tmp_path):
    small = {"rows": 32, "most_tokens": 512, "window": 200, "pairs": 12, "edits": 4, "held_out": 64, "log_every": 4}
    start, made = Path(teacher_folder), packed_teachers[0]
    return Settings(texts, made, start, tmp_path / "run", minutes=0.03, device="cpu", workers=0, **small)


def test_a_packed_teacher_says_what_the_teacher_says(packed_teachers, teacher_folder):
    made, mpnet = packed_teachers
    tokenizer = load_tokenizer(teacher_folder)
    ids, mask = padded([[30, 41, 52, 63], [70, 81]], tokenizer.cls_token_id, tokenizer.sep_token_id)
    for name, folder in (("mpnet", mpnet), ("minilm", teacher_folder)):
        with np.load(made / name / "weights.npz") as weights:
            read = teachers.states(teachers.unpacked(dict(weights), made / name), ids, mask)
        whole = AutoModel.from_pretrained(folder).eval()
        for row, length in enumerate(mask.sum(1).tolist()):  # alone, so that padding plays no part
            known = teachers.states(whole, ids[row : row + 1, :length], mask[row : row + 1, :length])
            cosine = torch.nn.functional.cosine_similarity(read[row, :length], known[0], dim=-1)
            assert cosine.min() > 0.995, name


def test_texts_on_a_device_are_padded_as_others_are(texts):
    rows = Rows.open(texts / "singles")
    chosen = np.array([3, 5, 11, 17])
    ids, mask = Texts(rows, torch.device("cpu"), CLS, SEP)[chosen]
    other, known = padded([rows[int(row)] for row in chosen], CLS, SEP)
    assert ids.shape[1] % 8 == 0
    assert torch.equal(ids[:, : other.shape[1]], other)
    assert torch.equal(mask[:, : other.shape[1]].long(), known)
    assert not mask[:, other.shape[1] :].any()


def test_the_last_layer_is_that_of_the_model(teacher_folder):
    model = BertModel.from_pretrained(teacher_folder).eval()
    ids, mask = padded([[30, 41, 52, 63], [70, 81]], CLS, SEP)
    types = torch.zeros_like(ids)
    types[:, 3:] = 1
    with torch.no_grad():
        for given in (None, types):
            known = model(input_ids=ids, attention_mask=mask, token_type_ids=given).last_hidden_state
            read = encode(model, ids, mask, given)
            assert torch.allclose(read[mask.bool()], known[mask.bool()], atol=1e-5)


def test_a_run_writes_a_model_that_has_learned(settings, capsys):
    before = BertModel.from_pretrained(settings.start_from)
    Run(settings).train()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0]["vectors"] == 600
    assert told[-1]["steps"] > 4
    assert told[-1]["held mean"] < 1
    after = BertModel.from_pretrained(settings.out / "model", dtype="auto")
    assert {weight.dtype for weight in after.parameters()} == {torch.float16}
    changed = dict(after.named_parameters())
    moved = [name for name, weight in before.named_parameters() if not torch.equal(weight.half(), changed[name])]
    assert any(name.startswith("pooler") for name in moved)
    assert any(name.startswith("encoder.layer.0") for name in moved)


def test_pairs_are_laid_the_same_by_any_process(settings):
    run = Run(replace(settings, workers=1))
    vectors = tuple(np.random.default_rng(0).normal(size=(520, 24)).astype(np.float16) for _ in "ab")
    found, again = (next(part) for part in (run._pairs(vectors), Run(settings)._pairs(vectors)))
    assert found.keys() == again.keys()
    assert all(torch.equal(found[name].nan_to_num(), again[name].nan_to_num()) for name in found)
    known = found["edit"] == NOT_ASKED
    assert torch.equal(known, ~found["cosine"].isnan())


def test_a_missing_gpu_is_told(settings):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="finds no GPU"):
        Run(replace(settings, device="cuda"))


def test_spans_are_words_that_follow_one_another():
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    found = {span(text, random.Random(seed)) for seed in range(50)}
    assert len(found) > 30
    assert all(part in text and 3 <= len(part.split()) <= 12 for part in found)
