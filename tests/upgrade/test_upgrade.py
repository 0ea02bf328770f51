"""Folders of earlier versions open, answer and go on as they did (`make.py` writes those of this version)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import bort
from bort.agora.answer_cache import AnswerCache
from bort.agora.run import finetune
from bort.data.corpus.corpus import open_corpus
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.model.tokenization import load_tokenizer
from bort.ose.arguments import ExtractArguments
from bort.ose.extract import extract
from bort.predict.manifest import read_manifest
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.pretrain import pretrain

VERSIONS = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))
ANSWERING = ["plain", "head", "agora", *(f"export-onnxruntime-{precision}" for precision in ("fp32", "int8"))]
ANSWERING += [f"export-openvino-{precision}" for precision in ("fp32", "int8")]
ENCODING = ["encoder", "shrunk", "converted", "export-encoder-fp32", "export-encoder-int8"]


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.name)
def old(request, tmp_path_factory) -> Path:
    """A copy of what a version wrote."""
    return Path(shutil.copytree(request.param, tmp_path_factory.mktemp("old") / "files"))


@pytest.fixture(scope="module")
def expected(old) -> dict[str, Any]:
    """What its models said when it was written."""
    return json.loads((old / "expected.json").read_text("utf-8"))


def settings(cls: type, folder: Path, **changed: Any) -> Any:
    """The settings of a run, as its folder has them."""
    kept = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    return replace(cls(**kept), **changed)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_there_are_files_of_this_version():
    assert bort.__version__ in {path.name for path in VERSIONS}, "run tests/upgrade/make.py before a release"


@pytest.mark.parametrize("name", ANSWERING)
def test_models_answer_as_they_did(old, expected, name):
    if "openvino" in name:
        pytest.importorskip("openvino")
    with bort.Predictor(str(old / name), threads=1) as predictor:
        found = [list(answer.probabilities.values()) for answer in predictor.predict(expected["texts"])]
    np.testing.assert_allclose(found, expected["said"][name], atol=0.02 if "int8" in name else 1e-4)


@pytest.mark.parametrize("name", ENCODING)
def test_encoders_give_the_vectors_they_gave(old, expected, name):
    with bort.Encoder(str(old / name), threads=1) as encoder:
        found = encoder.encode(expected["texts"])
    np.testing.assert_allclose(found, expected["said"][name], atol=0.05 if "int8" in name else 1e-4)


def test_an_index_finds_its_texts(old):
    index = bort.Index(old / "index")
    index.check()
    lines = (old / "lines.txt").read_text("utf-8").splitlines()
    assert index.texts(range(len(index))) == lines
    cosines, places = index.search(index.vectors(slice(3, 6)), 1)
    assert places[:, 0].tolist() == [3, 4, 5]
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_a_corpus_opens(old):
    tokenizer = load_tokenizer(old / "tokenizer")
    corpus = open_corpus(old / "corpus", tokenizer)
    first = tokenizer.decode(corpus.tokens("train")[: int(corpus.starts("train")[1:2][0])], skip_special_tokens=True)
    assert first.strip() == (old / "corpus.txt").read_text("utf-8").splitlines()[0]


def test_a_search_is_known_as_finished_and_its_shape_is_read(old, monkeypatch):
    monkeypatch.chdir(old)
    found = extract(settings(ExtractArguments, old / "extract", resume=True))
    assert found == json.loads((old / "extract" / "metrics.json").read_text("utf-8"))
    assert bort.architecture(old / "extract" / "architecture.json").num_hidden_layers in (1, 2)


@pytest.mark.parametrize("name", ["plain", "head", "agora"])
def test_finished_runs_are_known_as_such(old, monkeypatch, name):
    monkeypatch.chdir(old)
    found = finetune(settings(FinetuneArguments, old / name, resume=True))
    assert found == json.loads((old / name / "metrics.json").read_text("utf-8"))


def test_an_interrupted_finetuning_goes_on(old, monkeypatch):
    monkeypatch.chdir(old)
    whole = json.loads((old / "agora" / "metrics.json").read_text("utf-8"))
    found = finetune(settings(FinetuneArguments, old / "agora-killed", resume=True))
    assert [one["best"] for one in found["rounds"]] == [one["best"] for one in whole["rounds"]]
    assert found["rounds"][0] == whole["rounds"][0], "its first round was over"


def test_an_interrupted_pretraining_goes_on(old, monkeypatch):
    monkeypatch.chdir(old)
    folder = old / "pretrain-killed"
    begun = (folder / "journal.jsonl").read_text("utf-8")
    pretrain(settings(PretrainArguments, folder, resume=True))
    assert (folder / "journal.jsonl").read_text("utf-8").startswith(begun)
    assert json.loads((folder / "metrics.json").read_text("utf-8"))["steps"] == 12


def test_a_teachers_cache_is_used(old, monkeypatch):
    monkeypatch.chdir(old)
    before = contents(old / "teacher-cache")
    pretrain(settings(PretrainArguments, old / "encoder", out="again"))
    assert contents(old / "teacher-cache") == before


def test_a_later_version_is_refused_and_named(old, tmp_path, monkeypatch):
    """In each format: the one line says which version opens it."""

    def newer(name: str, change: Any) -> None:
        file = tmp_path / "old" / name
        content = json.loads(file.read_text("utf-8").splitlines()[0] if name.endswith("l") else file.read_text("utf-8"))
        change(content)
        file.write_text(json.dumps(content) + "\n", "utf-8")

    def plainly(content: dict[str, Any]) -> None:
        content.update(format=99, bort="7.1.0")

    shutil.copytree(old, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    refused = "is newer than format .* open it with bort 7.1.0 or later"
    newer("export-onnxruntime-fp32/manifest.json", plainly)
    with pytest.raises(BortError, match=refused):
        read_manifest("export-onnxruntime-fp32")
    newer("index/index.json", plainly)
    with pytest.raises(BortError, match=refused):
        bort.Index("index")
    newer("corpus/corpus.json", plainly)
    with pytest.raises(BortError, match=refused):
        open_corpus("corpus")
    newer("plain/config.json", lambda content: content.update(bort_format=99, bort_version="7.1.0"))
    with pytest.raises(BortError, match=refused):
        bort.Predictor("plain")
    newer("agora/journal.jsonl", plainly)
    with pytest.raises(BortError, match=refused):
        finetune(settings(FinetuneArguments, Path("agora"), resume=True))
    for state in Path("teacher-cache").rglob("cache.json"):
        newer(str(state), lambda content: (content.update(bort="7.1.0"), content["key"].update(format=99)))
    Path("corpus/corpus.json").write_bytes((old / "corpus/corpus.json").read_bytes())
    with pytest.raises(BortError, match=refused):
        pretrain(settings(PretrainArguments, Path("encoder"), out="again-2"))


def test_answers_of_a_later_version_are_refused(tmp_path):
    import sqlite3

    cache = AnswerCache(tmp_path, {"model": "m"})
    cache.keep({"a": 1})
    assert AnswerCache(tmp_path, {"model": "m"}).known(["a"]) == {"a": 1}
    with sqlite3.connect(next(tmp_path.glob("*.sqlite"))) as file:
        file.execute("UPDATE layout SET format = 2, bort = '7.1.0'")
    with pytest.raises(BortError, match=r"open it with bort 7\.1\.0 or later"):
        AnswerCache(tmp_path, {"model": "m"})
