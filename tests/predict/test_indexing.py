"""From text files to an index: all lines, in order, in bounded memory, and the same after a kill."""

from __future__ import annotations

import lzma
import shutil
import tracemalloc

import numpy as np
import pytest

from bort.data.index.search import Index
from bort.data.index.writer import IndexWriter
from bort.errors import BortError
from bort.predict import indexing
from bort.predict.encoder import Encoder
from bort.predict.fingerprint import fingerprint_of_model
from bort.predict.indexing import build_index


@pytest.fixture(scope="module")
def texts(sentences):
    return [f"{text} {n}" for n, text in enumerate(sentences[:40])]


def test_texts_come_out_with_their_vectors(teacher_folder, texts, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("".join(f"{text}\n\n" for text in texts[:25]), "utf-8")
    with lzma.open(tmp_path / "in" / "deep" / "b.txt.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(texts[25:]))
    index = build_index(tmp_path / "in", tmp_path / "out", teacher_folder, stored="float16")
    index.check()
    assert index.texts(range(len(index))) == texts, "blank lines are left out"
    vectors = Encoder(teacher_folder).encode(texts, normalize=True)
    np.testing.assert_allclose(index.vectors(slice(0, 40)), vectors, atol=1e-3)
    cosines, places = index.search(vectors[[3, 30]], 2)
    assert places[:, 0].tolist() == [3, 30]
    np.testing.assert_allclose(cosines[:, 0], 1, atol=2e-3)


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_files(launcher, killed, teacher_folder, sentences, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{n} {text}\n" for n in range(60) for text in sentences[:200]), "utf-8")
    words, log = ["index", str(source), "--model", teacher_folder, "--threads", "1", "--out"], tmp_path / "log"
    assert launcher.run([*words, str(tmp_path / "whole")], tmp_path, log=log) == 0, log.read_text("utf-8")
    out = tmp_path / "killed"
    killed([*words, str(out)], out, "unfinished.json")
    assert not (out / "index.json").exists(), "it was killed before it was done"
    assert launcher.run([*words, str(out)], tmp_path, log=log) == 2
    assert "--resume" in log.read_text("utf-8")
    assert launcher.run([*words, str(out), "--resume"], tmp_path, log=log) == 0, log.read_text("utf-8")
    for file in (tmp_path / "whole").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    assert len(Index(out)) == 12_000


def test_memory_does_not_grow_with_the_text(teacher_folder, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "_BATCH_TEXTS", 32)
    monkeypatch.setattr(indexing, "_BATCHES_A_COMMIT", 2)

    def peak(times: int) -> int:
        (tmp_path / f"{times}.txt").write_text("".join(f"{text}\n" for text in sentences[:64] * times), "utf-8")
        tracemalloc.start()
        build_index(tmp_path / f"{times}.txt", tmp_path / f"out{times}", teacher_folder)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(16) < 1.5 * peak(3)


def test_what_cannot_be_indexed(teacher_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BortError, match="holds no files"):
        build_index(tmp_path / "empty", tmp_path / "out", teacher_folder)
    with pytest.raises(BortError, match="no such file or folder"):
        build_index(tmp_path / "none", tmp_path / "out", teacher_folder)
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(BortError, match=r"bad.txt:2.*must be UTF-8"):
        build_index(tmp_path / "bad.txt", tmp_path / "out", teacher_folder)
    (tmp_path / "bad.txt").write_bytes(b"good\nbetter\n")
    assert len(build_index(tmp_path / "bad.txt", tmp_path / "out", teacher_folder, resume=True)) == 2


def test_another_encoder_of_the_same_name_does_not_go_on(teacher_folder, texts, tmp_path, monkeypatch):
    model = shutil.copytree(teacher_folder, tmp_path / "model")
    (tmp_path / "in.txt").write_text("\n".join(texts[:5]), "utf-8")
    asked = (tmp_path / "in.txt", tmp_path / "out", str(model))
    with monkeypatch.context() as killed:
        killed.delattr(IndexWriter, "finish")
        with pytest.raises(AttributeError):
            build_index(*asked)
    before = (model / "config.json").read_bytes()
    (model / "config.json").write_bytes(before + b" ")
    with pytest.raises(BortError, match=r"'model_sha256'.*differs from what the unfinished index was begun with"):
        build_index(*asked, resume=True)
    (model / "config.json").write_bytes(before)
    assert len(build_index(*asked, resume=True)) == 5


def test_the_fingerprint_of_a_model_has_all_that_makes_its_vectors(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    seen = set()
    for name in ("config.json", "1_Pooling/config.json"):
        for content in ("{}", "[]"):
            (tmp_path / name).write_text(content)
            seen.add(fingerprint_of_model(str(tmp_path)))
    assert len(seen) == 4
    assert len(fingerprint_of_model("bort-nano")) == 64, "it comes with the package, which may have another one"
    assert fingerprint_of_model("owner/name") == "owner/name"


def test_a_finished_index_is_known_as_such(teacher_folder, texts, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(texts[:5]), "utf-8")
    build_index(tmp_path / "in.txt", tmp_path / "out", teacher_folder)
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert len(build_index(tmp_path / "in.txt", tmp_path / "out", teacher_folder, resume=True)) == 5
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    with pytest.raises(BortError, match="already exists"):
        build_index(tmp_path / "in.txt", tmp_path / "out", teacher_folder, stored="float16", resume=True)
