"""A predictor is shared by threads: each gets the answers that it would get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from bort.cores import usable_cores
from bort.data.tables.examples import Example
from bort.export.exporter import Exporter
from bort.predict.engine import open_engine
from bort.predict.predictor import Predictor

THREADS = 8


@pytest.fixture(params=["torch", "onnxruntime", "openvino"])
def model(request, classifier, tmp_path) -> str:
    if request.param == "torch":
        return classifier
    pytest.importorskip(request.param)
    Exporter(classifier, request.param).write(tmp_path, None)
    return str(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_shared_by_eight_threads(model, sentences, threads):
    predictor = Predictor(model, threads=threads)
    long = "word " * 40
    asked = [[*sentences[n : n + 1 + 3 * (n % 20)], (sentences[n], sentences[-n]), long] for n in range(80)]
    alone = [predictor.predict_proba(texts) for texts in asked]
    assert np.ptp(np.concatenate(alone), axis=0).min() > 0.3, "the answers should differ, or the test says nothing"
    before = predictor.cut
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(predictor.predict_proba, asked))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert predictor.cut == 2 * before == 160


def test_no_more_threads_than_a_few_a_core(classifier, tmp_path):
    pytest.importorskip("onnxruntime")
    Exporter(classifier).write(tmp_path, None)
    assert open_engine(str(tmp_path), 10_000).threads == 4 * usable_cores()


def test_sessions_are_opened_once(classifier, sentences, tmp_path, monkeypatch):
    """The one for many batches too, whoever asks first."""
    pytest.importorskip("onnxruntime")
    from bort.predict import onnx_runner

    Exporter(classifier).write(tmp_path, None)
    opened, original = [], onnx_runner.open_session

    def counting(folder, graph, threads=None, **more):
        opened.append(threads)
        return original(folder, graph, threads, **more)

    monkeypatch.setattr(onnx_runner, "open_session", counting)
    predictor = Predictor(str(tmp_path), threads=2)
    examples = [Example(text) for text in sentences]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: predictor.logits(examples), range(THREADS)))
    assert opened == [2, 1]
    assert all(np.allclose(found[0], other, atol=1e-5) for other in found)


def test_a_folder_of_links_opens(classifier, tmp_path, sentences):
    """As the hub's cache lays files out."""
    for engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
        folder, blobs, links = (tmp_path / engine / name for name in ("whole", "blobs", "snapshots/abc"))
        for made in (folder, blobs, links):
            made.mkdir(parents=True)
        Exporter(classifier, engine).write(folder, None)
        for number, file in enumerate(sorted(folder.iterdir())):
            file.rename(blobs / str(number))
            (links / file.name).symlink_to(Path("../../blobs") / str(number))
        linked = Predictor(str(links)).predict_proba(sentences[:20])
        np.testing.assert_allclose(linked, Predictor(classifier).predict_proba(sentences[:20]), atol=1e-4)


def test_a_caller_does_not_wait_for_another_ones_batches(classifier, sentences, tmp_path):
    pytest.importorskip("onnxruntime")
    Exporter(classifier).write(tmp_path, None)
    examples = [Example(text) for text in sentences]
    expected = Predictor(str(tmp_path), threads=1).logits(examples)
    predictor, ended = Predictor(str(tmp_path), threads=2), Event()
    busy = predictor.engine.pool.submit(ended.wait)
    try:
        np.testing.assert_allclose(predictor.logits(examples), expected, atol=1e-5)
    finally:
        ended.set()
    assert busy.result()
