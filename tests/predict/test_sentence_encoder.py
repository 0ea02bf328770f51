import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bort.errors import BortError
from bort.predict.sentence_encoder import EmbeddingTeacher, align


@pytest.fixture
def teacher(teacher_folder) -> EmbeddingTeacher:
    return EmbeddingTeacher(teacher_folder, torch.device("cpu"))


def test_pooled_and_token_vectors_are_the_models(teacher, sentences):
    texts = [sentences[0], "My sister", sentences[5], ""]
    pooled, vectors, offsets = teacher.encode(texts, (1, 2))
    assert pooled.shape == (4, 12)
    for text, mean, layers, places in zip(texts, pooled, vectors, offsets, strict=True):
        encoded = teacher.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        assert places.tolist() == encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            hidden = teacher.model(**encoded, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(mean, hidden[-1][0].mean(0).numpy(), atol=1e-5)
        for layer in (1, 2):
            np.testing.assert_allclose(layers[layer], hidden[layer][0].numpy(), atol=1e-5)


def test_pooling_of_the_first_token_is_read_from_the_folder(teacher_folder, sentences, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    pooled, vectors, _ = teacher.encode(sentences[:3], (2,))
    np.testing.assert_allclose(pooled, np.stack([layers[2][0] for layers in vectors]), atol=1e-6)
    (folder / "1_Pooling" / "config.json").write_text("[]")
    with pytest.raises(BortError, match=r"1_Pooling.*must hold one JSON object"):
        EmbeddingTeacher(str(folder), torch.device("cpu"))


def test_long_texts_are_cut(teacher):
    pooled, vectors, _ = teacher.encode(["apples " * 500], (2,))
    assert np.isfinite(pooled).all()
    assert len(vectors[0][2]) == 62  # two positions fewer than it has


spans = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=8).map(
    lambda pairs: np.array([(start, start + length) for start, length in pairs])
)


@given(spans, spans, st.integers(0, 99))
def test_alignment_is_the_mean_over_shared_characters(offsets, mine, seed):
    vectors = np.random.default_rng(seed).random((len(offsets), 3)).astype(np.float32)
    aligned = align(vectors, offsets, mine)
    for (start, stop), vector in zip(mine, aligned, strict=True):
        shared = [n for n, (a, b) in enumerate(offsets) for c in range(a, b) if start <= c < stop]
        expected = vectors[shared].mean(0) if shared else np.zeros(3)
        np.testing.assert_allclose(vector, expected, atol=1e-5)
