"""Pairs that were joined for a cross-encoder are read apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig

from bort.model.bi_encoder import BortBiEncoderForSequenceClassification, taken_apart
from bort.model.pair_features import pair_features

CLS, SEP, PAD = 1, 2, 0
TEXTS = st.lists(st.integers(3, 30), max_size=6)


def joined(pairs):
    """*Shape:* three tensors (pairs, longest)."""
    rows = [([CLS, *a, SEP, *b, SEP], [0] * (len(a) + 2) + [1] * (len(b) + 1)) for a, b in pairs]
    longest = max(len(ids) for ids, _ in rows)
    padded = [(ids + [PAD] * (longest - len(ids)), kinds + [0] * (longest - len(ids))) for ids, kinds in rows]
    mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]
    return torch.tensor([i for i, _ in padded]), torch.tensor(mask), torch.tensor([k for _, k in padded])


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_texts_come_out_as_they_went_in(pairs):
    ids, mask = taken_apart(*joined(pairs))
    found = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
    assert found == [[CLS, *text, SEP] for side in zip(*pairs, strict=True) for text in side]


def test_rows_without_a_first_text_are_borne():
    ids, mask = taken_apart(torch.tensor([[5, 6]]), torch.tensor([[1, 1]]), torch.tensor([[1, 1]]))
    assert ids.shape == mask.shape == (2, 2)
    assert mask.sum(1).tolist() == [1, 2]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
        num_labels=3,
    )
    return BortBiEncoderForSequenceClassification(config).eval()


@torch.no_grad()
def test_the_head_reads_the_features_of_the_vectors_of_lone_texts(model):
    pairs = [([3, 4, 5], [6]), ([7], [8, 9, 10, 11]), ([], [12, 13])]
    sides = []
    for side in zip(*pairs, strict=True):
        rows = [model.bert(torch.tensor([[CLS, *text, SEP]])).last_hidden_state[0].mean(0) for text in side]
        sides.append(np.stack([(row / row.norm()).numpy() for row in rows]))
    expected = pair_features(*sides)
    np.testing.assert_allclose(model.features(*joined(pairs)).numpy(), expected, atol=1e-5)
    logits = model.classifier(torch.from_numpy(expected)).numpy()
    np.testing.assert_allclose(model(*joined(pairs)).logits.numpy(), logits, atol=1e-5)
