"""The index: exact search whatever the blocks, texts as they were, and refusals of what is damaged."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bort.data.index import search
from bort.data.index.layout import NAME, TEXTS, VECTORS, Description
from bort.data.index.search import Apart, Index
from bort.data.index.writer import IndexWriter, rounded
from bort.errors import BortError


def unit(count: int, size: int = 5, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def written(folder: Path, vectors: np.ndarray, stored="int8", texts=None) -> Index:
    writer = IndexWriter(folder, Description("m", vectors.shape[1], stored))
    texts = texts or [f"text {n} ☃" for n in range(len(vectors))]
    for start in range(0, len(vectors), 7):
        writer.append(texts[start : start + 7], vectors[start : start + 7])
    writer.commit(len(texts))
    writer.finish()
    return Index(folder)


@pytest.mark.parametrize("stored", ["int8", "float16"])
def test_search_is_exact_in_blocks(tmp_path, monkeypatch, stored):
    vectors = np.concatenate([unit(60), unit(60)[:20]])  # some are there twice
    index = written(tmp_path / "i", vectors, stored)
    kept = index.vectors(slice(0, 80))
    np.testing.assert_allclose(kept, vectors, atol=2 / 127 if stored == "int8" else 1e-3)
    queries = unit(4, seed=1)
    expected = np.argsort(-(queries @ kept.T), axis=1, kind="stable")
    for block_bytes in (20, 140, 10**6):
        monkeypatch.setattr(search, "_BLOCK_BYTES", block_bytes)
        cosines, places = index.search(queries, 9)
        np.testing.assert_allclose(cosines, np.sort(queries @ kept.T, axis=1)[:, ::-1][:, :9], atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(queries @ kept.T, places, 1), cosines, atol=1e-6)
        assert all(len({*row}) == 9 for row in places.tolist())
    assert index.search(queries, 500)[1].shape == (4, 80)
    assert index.texts(expected[0][:2]) == [f"text {n} ☃" for n in expected[0][:2]]


def test_an_index_in_the_home_folder(tmp_path, monkeypatch):
    written(tmp_path / "pool", unit(3))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Index("~/pool")) == 3


def test_many_queries_find_what_each_finds_alone_in_bounded_memory(tmp_path):
    vectors, queries = np.eye(8, dtype=np.float32)[np.arange(3000) % 8], unit(2000, 8, seed=1)
    index = written(tmp_path / "i", vectors)
    tracemalloc.start()
    cosines, places = index.search(queries, 5)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * 2**20, "all cosines together take 23 MiB"
    for number in (0, 7, 8, 1999):
        [alone], [found] = index.search(queries[number : number + 1], 5)
        np.testing.assert_allclose(cosines[number], alone, atol=1e-6)
        assert places[number].tolist() == found.tolist()
    assert index.search(queries[:0], 5)[1].shape[0] == 0


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 5), st.floats(-0.5, 1.1))
def test_near_duplicates_are_dropped_as_one_by_one(tmp_path_factory, count, k, seed, distinct):
    index = written(tmp_path_factory.mktemp("i") / "i", np.concatenate([unit(count, 3, seed)] * 2))
    query = unit(1, 3, seed + 50)
    _, [found] = index.search(query, k, distinct=distinct)
    _, [everything] = index.search(query, len(index))
    vectors, expected = index.vectors(slice(0, len(index))), []
    assume(np.abs(vectors @ vectors.T - distinct).min() > 1e-5)  # or the last bit decides
    for place in everything.tolist():
        if all(float(vectors[place] @ vectors[one]) < distinct for one in expected):
            expected.append(place)
    expected = (expected + [-1] * k)[: min(k, len(index))]
    assert found.tolist() == expected


def test_only_queries_that_lack_texts_search_on(tmp_path, monkeypatch):
    index = written(tmp_path / "i", np.repeat(np.eye(4, dtype=np.float32), [30, 1, 1, 1], axis=0))
    asked, nearest = [], index._nearest
    monkeypatch.setattr(index, "_nearest", lambda x, k: asked.append((len(x), k)) or nearest(x, k))
    queries = np.array([[0, 0.8, 0.6, 0], [0.8, 0.6, 0, 0], [0, 0, 0.6, 0.8]], np.float32)
    cosines, places = index.search(queries, 2, distinct=0.9)
    assert places.tolist() == [[30, 31], [0, 30], [32, 31]]
    np.testing.assert_allclose(cosines, [[0.8, 0.6]] * 3, atol=0.01)
    assert asked == [(3, 4), (1, 16), (1, 33)]


@given(st.integers(0, 20), st.integers(0, 9), st.sampled_from(["int8", "float16"]))
def test_stored_vectors_keep_their_length_and_almost_their_direction(rows, seed, stored):
    vectors = unit(rows, 4, seed)
    numbers, scales = rounded(vectors, stored)
    back = numbers.astype(np.float32) * scales[:, None]
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert (np.abs(back - vectors) <= (2 / 127 if stored == "int8" else 1e-3)).all()


def test_an_unfinished_index_goes_on_from_its_last_commit(tmp_path):
    vectors, texts = unit(20), [f"text {n}" for n in range(20)]
    whole = written(tmp_path / "whole", vectors, texts=texts)
    described = Description("m", 5, "int8")
    writer = IndexWriter(tmp_path / "killed", described)
    writer.append(texts[:8], vectors[:8])
    writer.commit(8)
    writer.append(texts[8:15], vectors[8:15])  # never committed
    for file in writer._files.values():
        file.flush()
    del writer
    with pytest.raises(BortError, match="--resume"):
        IndexWriter(tmp_path / "killed", described)
    with pytest.raises(BortError, match=r"column 'model'.*begun with"):
        IndexWriter(tmp_path / "killed", Description("other", 5, "int8"), resume=True)
    writer = IndexWriter(tmp_path / "killed", described, resume=True)
    assert (writer.read, writer.count) == (8, 8)
    with pytest.raises(BortError, match="another process"):
        IndexWriter(tmp_path / "killed", described, resume=True)
    writer.append(texts[8:], vectors[8:])
    writer.commit(20)
    writer.finish()
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes(), file.name
    assert whole.texts([0, 19]) == ["text 0", "text 19"]
    del writer
    with pytest.raises(BortError, match="already exists"):
        IndexWriter(tmp_path / "killed", described, resume=True)


def test_files_of_somebody_else_stay(tmp_path):
    (tmp_path / VECTORS).write_bytes(b"precious")
    with pytest.raises(BortError, match="already exists"):
        IndexWriter(tmp_path, Description("m", 5, "int8"))
    assert (tmp_path / VECTORS).read_bytes() == b"precious"
    (tmp_path / VECTORS).write_bytes(b"")  # as a run leaves it that is killed at its first step
    assert len(written(tmp_path, unit(3))) == 3


def test_what_holds_nothing_yet_is_begun_anew(tmp_path):
    writer = IndexWriter(tmp_path, Description("m", 5, "int8"))
    writer.append(["a"], unit(1))
    del writer
    assert len(written(tmp_path, unit(3, 4))) == 3


def test_damage_is_told(tmp_path):
    index = written(tmp_path / "i", unit(9))
    index.check()
    content = (tmp_path / "i" / TEXTS).read_bytes()
    (tmp_path / "i" / TEXTS).write_bytes(b"x" + content[1:])
    with pytest.raises(BortError, match=r"texts.bin.*is not what was written"):
        Index(tmp_path / "i").check()
    (tmp_path / "i" / TEXTS).write_bytes(b"\xff" + content[1:])
    with pytest.raises(BortError, match=r"texts.bin: does not hold UTF-8"):
        Index(tmp_path / "i").texts([0])
    (tmp_path / "i" / VECTORS).write_bytes(b"")
    with pytest.raises(BortError, match=r"vectors.bin.*is not as long"):
        Index(tmp_path / "i")
    with pytest.raises(BortError, match="no finished index"):
        Index(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "open it with bort 0"),
     ({"format": 0}, "another format than 1"), ({"stored": "int4"}, "is not what"), ({"count": "9"}, "'count'"),
     ({"count": 10}, "does not fit the number"), ({"files": {}}, "does not fit"),
     ({"files": {"a": None}}, "is not what"),
     ({"more": 1}, "is not what")],
)  # fmt: skip
def test_a_changed_description_is_refused(tmp_path, change, message):
    written(tmp_path / "i", unit(9))
    file = tmp_path / "i" / NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BortError, match=message):
        Index(tmp_path / "i")


def test_what_is_asked_wrongly(tmp_path):
    index = written(tmp_path / "i", unit(3))
    with pytest.raises(ValueError, match="k must"):
        index.search(unit(1), 0)
    with pytest.raises(ValueError, match="queries, 5"):
        index.search(unit(1, 4), 1)
    assert len(written(tmp_path / "empty", unit(0))) == 0


@pytest.mark.parametrize("places", [[-1], [2, 3], np.array([0, -1])])
def test_a_place_that_is_none_has_no_text_and_no_vector(tmp_path, places):
    index = written(tmp_path / "i", unit(3))
    with pytest.raises(ValueError, match="places must be from 0 to 2"):
        index.texts(places)
    with pytest.raises(ValueError, match="places must be from 0 to 2"):
        index.vectors(places)
    assert index.texts([]) == []
    assert index.vectors(slice(-1, None)).shape == (1, 5)


def test_vectors_that_lie_apart_may_be_many():
    vectors, apart = unit(700, size=16), Apart(16, distinct=0.99)
    assert all(apart.add(vector) for vector in vectors)
    assert not any(apart.add(vector) for vector in vectors)
    assert len(apart) == 700
