import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.model.devices import INFERENCE_TOKENS
from bort.model.mlm_loss import SoftTargets, soft_distance
from bort.model.tokenization import ByteText
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.pretraining.distill import targets
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary
from bort.pretraining.distill.targets import pad, sample, weights_of
from bort.pretraining.objective import distillation


def some_logits(seed: int, rows: int = 400, vocab: int = 500, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def sparse_distance(student, ids, log_p, tail, temperature):
    soft = SoftTargets(ids, log_p, weights_of(log_p, tail), temperature, mlm_weight=0.0, kd_weight=1.0)
    return soft_distance(student, soft)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(0, 8), st.floats(0.5, 4.0))
def test_weights_sum_to_one_and_the_top_is_the_top(seed, top_k, tail, temperature):
    logits = some_logits(seed, rows=6, vocab=40)
    ids, log_p = sample(logits, top_k, tail, temperature, torch.Generator().manual_seed(seed))
    weights = weights_of(log_p, tail)
    assert ids.shape == log_p.shape == weights.shape == (6, top_k + tail)
    torch.testing.assert_close(weights.sum(-1), torch.ones(6), atol=1e-4, rtol=0)
    assert torch.equal(ids[:, :top_k], logits.topk(top_k, -1).indices)
    p = functional.softmax(logits / temperature, -1)
    if tail:
        torch.testing.assert_close(log_p, p.log().gather(-1, ids), atol=1e-4, rtol=1e-4)
    if tail and top_k < 40:
        assert not (ids[:, top_k:, None] == ids[:, None, :top_k]).any()
        torch.testing.assert_close(weights[:, :top_k], p.topk(top_k, -1).values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(weights[:, top_k:].sum(-1), 1 - weights[:, :top_k].sum(-1), atol=1e-5, rtol=1e-4)


def test_the_sampled_distance_is_near_the_full_one():
    """Where the most probable tokens alone are far off: a flat teacher, T = 2, and a student that is on its way."""
    teacher = some_logits(0, rows=2000)
    student = 0.5 * teacher + 0.3 * some_logits(1, rows=2000)
    full = distillation(student, teacher, temperature=2.0).item()
    rng = torch.Generator().manual_seed(0)
    with_tail = sparse_distance(student, *sample(teacher, 64, 16, 2.0, rng), 16, 2.0).item()
    without = sparse_distance(student, *sample(teacher, 64, 0, 2.0, rng), 0, 2.0).item()
    assert with_tail == pytest.approx(full, rel=0.01)
    assert abs(without - full) > 0.2 * full


def test_each_token_is_drawn_as_often_as_it_is_probable():
    logits = some_logits(3, rows=1, vocab=30).expand(4000, -1)
    ids, log_p = sample(logits, 5, 4, 1.0, torch.Generator().manual_seed(0))
    seen = torch.zeros(30).scatter_add(0, ids.flatten(), weights_of(log_p, 4).flatten()) / len(logits)
    torch.testing.assert_close(seen, functional.softmax(logits[0], -1), atol=2e-3, rtol=0)


def test_the_whole_vocabulary_is_exact():
    teacher, student = some_logits(0, vocab=50), some_logits(1, vocab=50)
    kept = sample(teacher, 50, 4, 2.0, torch.Generator().manual_seed(0))
    full = distillation(student, teacher, temperature=2.0).item()
    assert sparse_distance(student, *kept, 4, 2.0).item() == pytest.approx(full, rel=1e-4)


@pytest.mark.parametrize("tail", [0, 4])
def test_samples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch, tail):
    logits, seen = some_logits(2, rows=50, vocab=40), []
    expected = sample(logits, 5, tail, 2.0, torch.Generator().manual_seed(0))
    monkeypatch.setattr(targets, "_SAMPLED_AT_ONCE", 3 * 40 + 1)
    softmax = torch.log_softmax
    monkeypatch.setattr("torch.log_softmax", lambda part, axis: seen.append(len(part)) or softmax(part, axis))
    found = sample(logits, 5, tail, 2.0, torch.Generator().manual_seed(0))
    assert max(seen) == 3
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert [part.shape for part in sample(logits[:0], 5, tail, 2.0, torch.Generator())] == [(0, 5 + tail)] * 2


@pytest.mark.parametrize("kind", ["logits", "texts", "ids"])
def test_progress_is_told_batch_by_batch(world, teacher_folder, tiny_tokenizer, tmp_path, monkeypatch, kind):
    """Not only once a chunk is on disk, which may take many minutes."""
    monkeypatch.setattr(targets, "_BATCH_TOKENS", 64)
    monkeypatch.setitem(INFERENCE_TOKENS, "cpu", 64)
    tokens = np.arange(5, 305, dtype=np.uint16).repeat(2)
    masker = Masker(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=200)
    rows = PackedRows(tokens % 190, masker, 12, 0, 2, 60, fixed_masks=True)
    if kind == "logits":
        teacher = MaskedLMTeacher(world.encoder, tiny_tokenizer.get_vocab(), torch.device("cpu"))
        asked = targets.LogitTargets(teacher, 4, 2, 1.0, "float16", 1)
    else:
        encoder = EmbeddingTeacher(teacher_folder, torch.device("cpu"))
        reader = ByteText.of(tiny_tokenizer) if kind == "texts" else SharedVocabulary(torch.arange(200))
        asked = targets.EmbeddingTargets(encoder, reader, (), "float16")
    told = []
    targets.cached_targets(asked, rows, tmp_path / "cache", "x", lambda done, tokens: told.append((done, tokens)))
    assert len(told) > 5
    assert told == sorted(told)
    assert told[-1] == (60, 720)


def test_padding():
    whole, none = pad([np.array([1, 2]), np.array([3, 4])], 9)
    assert (whole.tolist(), none) == ([[1, 2], [3, 4]], None)
    padded, mask = pad([np.array([1]), np.array([2, 3, 4])], 9)
    assert padded.tolist() == [[1, 9, 9], [2, 3, 4]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
