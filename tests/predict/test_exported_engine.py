"""An exported folder that is replaced while a model of it is open."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.export.openvino_model import add_prepared
from bort.files import folder_aside
from bort.predict.engine import open_exported
from bort.predict.exported_engine import ExportedEngine

pytest.importorskip("onnxruntime")


def replace(folder: Path, other: Path) -> None:
    with folder_aside(folder) as aside:
        shutil.copytree(other, aside, dirs_exist_ok=True)


def logits(engine: ExportedEngine, texts: list[str]) -> np.ndarray:
    return engine.run(engine.encode([Example(text) for text in texts]))


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "both"])
def exports(request, classifier, other_classifier, tmp_path_factory) -> Path:
    """Exports of two models of one graph; with both engines, OpenVINO computes the longer texts."""
    if request.param != "onnxruntime":
        pytest.importorskip("openvino")
    engines = ["onnxruntime", "openvino"] if request.param == "both" else [request.param]
    made = tmp_path_factory.mktemp("exports")
    for name, model in (("live", classifier), ("other", other_classifier)):
        first, *longer = [Exporter(model, engine) for engine in engines]
        (made / name).mkdir()
        manifest = first.write(made / name, None)
        for exporter in longer:
            manifest = exporter.add(made / name, manifest, None, None, 16)
        add_prepared(made / name, manifest)
    if request.param != "openvino":  # whose graph has a number in it
        graphs = {(made / name / "model.onnx").read_bytes() for name in ("live", "other")}
        assert len(graphs) == 1, "the checksum of the graph must not tell them apart"
    return made


@pytest.fixture
def folders(exports, tmp_path) -> tuple[Path, Path]:
    shutil.copytree(exports, tmp_path / "exports")
    return tmp_path / "exports/live", tmp_path / "exports/other"


def test_answers_are_of_one_model(folders, sentences):
    """Where the rest of a model is loaded after its folder was replaced, it is that of another model."""
    folder, other = folders
    texts = [*sentences, *(f"{one} {one} {one}" for one in sentences)]
    expected = logits(open_exported(folder, 2), texts)
    assert np.abs(logits(open_exported(other, 2), texts) - expected).max() > 0.1, "the models must differ"
    lazy, whole = open_exported(folder, 2), open_exported(folder, 2)
    whole.open_all()
    replace(folder, other)
    with pytest.raises(BortError, match="has been replaced since it was opened; open it again"):
        logits(lazy, texts)
    np.testing.assert_allclose(logits(lazy, texts[:1]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(logits(whole, texts), expected, atol=1e-5)
    shutil.rmtree(folder)
    np.testing.assert_allclose(logits(whole, texts), expected, atol=1e-5)


def test_the_working_folder_may_change(folders, sentences, monkeypatch):
    folder, _ = folders
    expected = logits(open_exported(folder, 2), sentences)
    monkeypatch.chdir(folder.parent)
    engine = open_exported(folder.name, 2)
    monkeypatch.chdir("/")
    np.testing.assert_allclose(logits(engine, sentences), expected, atol=1e-5)


def test_a_folder_with_the_same_files_is_the_same(folders, sentences):
    folder, _ = folders
    expected = logits(open_exported(folder, 2), sentences)
    engine = open_exported(folder, 2)
    shutil.copytree(folder, folder.with_name("same"))
    replace(folder, folder.with_name("same"))
    np.testing.assert_allclose(logits(engine, sentences), expected, atol=1e-5)
