"""The training of bort-nano: batches that go on where they stopped, pairs as BERT reads them, edits that tell."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from benchmarks.nano.losses import Heads, pair_losses, pair_targets, single_losses
from benchmarks.nano.pairs import NOT_ASKED, Edit, Joined, Words, join, lay, lexical
from benchmarks.nano.rows import batches, padded

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
    heads = Heads(16)
    mask = padded([[3, 4, 6], [7, 8]], CLS, SEP)[1]
    teacher = torch.randn(2, 5, 16)
    states = teacher.clone()
    states[:, 0] = (teacher * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    made = single_losses(states, torch.randn(2, 16), teacher, mask, heads)
    assert made["first"] < 1e-6
    assert made["states"] < 1e-6
    texts = [[3, 4, 6], [7, 8], [3, 4, 6], [7, 6]]
    joined = Joined(np.array([0, 1]), np.array([2, 3]), np.array([1, 0]), np.full(2, NOT_ASKED))
    shared = lexical(texts, joined, np.ones(len(TOKENS), dtype=np.float32))
    assert shared.tolist() == [[1, 1], [0.5, 0.5]]
    laid = lay(texts, joined, 5, CLS, SEP)
    unit = torch.nn.functional.normalize(torch.randn(4, 16), dim=-1)
    targets = pair_targets(
        torch.randn(20, 16), unit[:2], unit[2:], laid, shared, torch.tensor([1, 0]), torch.full((2,), NOT_ASKED)
    )
    assert targets.matches[0, 1:4, 1].tolist() == [1, 1, 1]
    assert targets.matches[1, 1:3, 1].tolist() == [1, 0]
    losses = pair_losses(targets.tokens, torch.randn(2, 16), laid, targets, heads)
    assert losses["pair states"] < 1e-6
    assert all(torch.isfinite(value) for name, value in losses.items() if name != "edit")
