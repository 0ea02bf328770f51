"""From text files to an index: all lines, in order, in bounded memory, and the same after a kill."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from bort.data.index.layout import NAME
from bort.data.index.search import Index
from bort.data.index.writer import IndexWriter
from bort.errors import BortError
from bort.predict import indexing
from bort.predict.encoder import Encoder
from bort.predict.fingerprint import fingerprint_of_model
from bort.predict.indexing import build_index, encoder_of


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


def test_a_file_whose_name_is_no_utf8(teacher_folder, texts, tmp_path):
    (tmp_path / "in").mkdir()
    try:
        (tmp_path / "in" / os.fsdecode(b"caf\xe9.txt")).write_text("\n".join(texts[:5]), "utf-8")
    except OSError:
        pytest.skip("the file system takes no such name")
    asked = (tmp_path / "in", tmp_path / "out", teacher_folder)
    assert len(build_index(*asked)) == len(build_index(*asked, resume=True)) == 5


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_files(launcher, killed, teacher_folder, sentences, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{n} {text}\n" for n in range(60) for text in sentences[:200]), "utf-8")
    words, log = ["index", str(source), "--model", teacher_folder, "--threads", "1", "--out"], tmp_path / "log"
    assert launcher.run([*words, str(tmp_path / "whole")], tmp_path, log=log) == 0, log.read_text("utf-8")
    out = tmp_path / "killed"
    killed([*words, str(out)], out, "unfinished.json", lambda file: json.loads(file.read_bytes())["read"] > 0)
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
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(BortError, match=r"blank.txt: holds no texts"):
        build_index(tmp_path / "blank.txt", tmp_path / "out", teacher_folder)
    (tmp_path / "empty" / "_manifest.json").write_text("{}")
    for source in ("empty", "a.csv", "a.parquet", "a.jsonl.gz"):
        (tmp_path / source).touch()
        with pytest.raises(BortError, match="plain text, one text a line"):
            build_index(tmp_path / source, tmp_path / "out", teacher_folder)
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty" / "notes.md").write_text("a note\n")
    assert [*build_index(tmp_path / "empty", tmp_path / "notes", teacher_folder).texts([0])] == ["a note"]
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(BortError, match=r"bad.txt:2.*must be UTF-8"):
        build_index(tmp_path / "bad.txt", tmp_path / "out", teacher_folder)
    (tmp_path / "texts.bin").write_bytes(b"a text\n")  # a file of an index is called so
    with pytest.raises(BortError, match="would replace a file that this command reads"):
        build_index(tmp_path / "texts.bin", tmp_path, teacher_folder)
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
    state = json.loads((tmp_path / "out" / "unfinished.json").read_text("utf-8"))
    del state["begun"]["model_sha256"]  # as version 0.1.0 left it
    (tmp_path / "out" / "unfinished.json").write_text(json.dumps(state), "utf-8")
    assert len(build_index(*asked, resume=True)) == 5


def test_an_interrupted_call_whose_error_is_kept_does_not_lock_the_index(teacher_folder, texts, tmp_path, monkeypatch):
    """As in a notebook, which keeps the last error."""
    (tmp_path / "in.txt").write_text("\n".join(texts[:5]), "utf-8")
    asked, errors = (tmp_path / "in.txt", tmp_path / "out", teacher_folder), []
    with monkeypatch.context() as interrupted:
        interrupted.setattr(IndexWriter, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt) as error:
            build_index(*asked)
        errors.append(error)
    with pytest.raises(BortError, match="go on with --resume") as error:
        build_index(*asked)
    errors.append(error)
    assert len(build_index(*asked, resume=True)) == 5


def test_the_fingerprint_of_a_model_has_all_that_makes_its_vectors(tmp_path):
    model = tmp_path / "model"
    for folder in ("1_Pooling", "modules/dense"):
        (model / folder).mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    listed = [{"type": "", "path": path} for path in ("", "1_Pooling", "modules/dense", "\0")]
    (model / "modules.json").write_text(json.dumps(listed))
    seen = set()
    for name in ("config.json", "1_Pooling/config.json", "modules/dense/config.json"):
        for content in ("{}", "[]"):
            (model / name).write_text(content)
            seen.add(fingerprint_of_model(str(model)))
    assert len(seen) == 6
    for path in ("../beside", str(tmp_path / "beside")):
        (model / "modules.json").write_text(json.dumps([*listed, {"type": "", "path": path}]))
        before = fingerprint_of_model(str(model))
        (tmp_path / "beside" / "config.json").write_text(path)
        assert fingerprint_of_model(str(model)) == before, "nothing outside of the folder is read"
    (model / "modules.json").write_text('[{"path"')
    assert len(fingerprint_of_model(str(model))) == 64
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


def test_a_finished_index_is_not_used_with_another_encoder_of_the_same_name(
    teacher_folder, texts, tmp_path, monkeypatch
):
    model = shutil.copytree(teacher_folder, tmp_path / "model")
    (tmp_path / "in.txt").write_text("\n".join(texts[:5]), "utf-8")
    monkeypatch.chdir(tmp_path)
    asked = ("in.txt", "out", "model")
    index = build_index(*asked)
    assert index.description.model == str(model), "it is found from any folder"
    assert encoder_of(index).size == index.size
    described = json.loads((tmp_path / "out" / NAME).read_text("utf-8"))
    moved = model.rename(tmp_path / "moved")
    assert len(build_index("in.txt", "out", "moved", resume=True)) == 5, "the files are the same"
    moved.rename(model)
    (model / "config.json").write_bytes((model / "config.json").read_bytes() + b" ")
    with pytest.raises(BortError, match=r"has other files than when the index out was made"):
        encoder_of(index)
    with pytest.raises(BortError, match="already exists"):
        build_index(*asked, resume=True)
    del described["model_sha256"]  # as version 0.1.0 left it
    (tmp_path / "out" / NAME).write_text(json.dumps(described | {"model": "model"}), "utf-8")
    assert len(build_index(*asked, resume=True)) == 5
    assert encoder_of(Index("out")).size == index.size
