"""Which engine and precision is written, and from which length on the second of two."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export import decision, timing
from bort.export.candidate import ExportCandidate
from bort.export.exporter import Exporter
from bort.export.openvino_model import add_prepared
from bort.predict import openvino_runner
from bort.predict.costs import MOST_TOKENS, BatchCosts
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import joined, read_manifest
from bort.predict.openvino_runner import OpenVinoRunner
from bort.predict.predictor import Predictor

WAY = dict.fromkeys(timing.WAYS, 1.0)


def costs(fixed: float, token: float) -> BatchCosts:
    rows, lengths = (1, 8, 64), (8, 32, 64)
    alone = tuple(tuple(fixed + token * b * length for length in lengths) for b in rows)
    return BatchCosts(rows, lengths, 1, alone, alone)


def times(*milliseconds: float) -> timing.Speeds:
    return dict(zip(timing.WAYS, milliseconds, strict=True))


@given(
    arrays(float, (4, 3), elements=st.floats(0, 10)),
    arrays(float, (4, 3), elements=st.sampled_from([0.0, 0.0, 0.0, 5.0, 100.0])),
)
def test_costs_lose_what_other_work_added_to_them(steps, added):
    true = steps.cumsum(0).cumsum(1)  # more rows, or longer ones, never cost less
    found = timing.undisturbed(true + added)
    assert (true <= found).all()
    assert (found <= true + added).all()
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_one_stalled_measurement_does_not_spoil_the_others(classifier, tmp_path, monkeypatch):
    """It was carried to all larger batches, which then seemed to cost as much."""
    Exporter(classifier).write(tmp_path, None)
    engine = open_exported(tmp_path, threads=2)
    stalled = {(1, 8): 72.6}
    monkeypatch.setattr(
        timing, "_point", lambda engine, rows, length, shared: stalled.get((rows, length), 0.01 * rows * length)
    )
    found = timing.measured_costs(engine)
    assert found.alone[0][0] == found.alone[0][1] == 0.16
    assert found.alone[1][0] == 0.16


def test_the_score_is_a_geometric_mean():
    assert timing.score(times(1, 2, 4, 8)) == pytest.approx(math.exp(math.log(64) / 4))
    assert timing.fastest({"a-fp32": times(1, 1, 1, 1), "b-int8": times(2, 2, 0.1, 0.1)}) == "b-int8"
    assert timing.fastest({"a-fp32": times(0.97, 0.97, 0.97, 0.97), "a-int8": WAY}) == "a-int8", "it takes less memory"
    assert timing.fastest({"a-fp32": times(0.9, 0.9, 0.9, 0.9), "a-int8": WAY}) == "a-fp32"


@given(
    *(st.builds(costs, st.floats(0.1, 50), st.floats(0.01, 2)),) * 2,
    st.lists(st.integers(1, 90), min_size=1, max_size=30),
)
def test_no_other_length_is_a_better_one_to_meet_at(first, second, lengths):
    start, part = timing.meeting(first, second, lengths)

    def a_text(of: BatchCosts, length: int) -> float:
        length = min(length, of.lengths[-1])
        rows = max(1, min(64, MOST_TOKENS // length))
        return math.sqrt(of.table()[1, length] * of.table()[rows, length] / rows)

    def total(at: int) -> float:
        return sum(a_text(first if length < at else second, length) for length in lengths)

    alone = min(total(0), total(1000))
    assert start > min(lengths), "the first has some of the texts"
    assert total(start) / alone == pytest.approx(part) or len(set(lengths)) == 1
    if len(set(lengths)) > 1:
        assert total(start) == pytest.approx(min(total(at) for at in sorted(set(lengths))[1:]))


@pytest.fixture(scope="module")
def candidates(classifier, tmp_path_factory) -> list[ExportCandidate]:
    pytest.importorskip("openvino")
    made = []
    for engine in ("onnxruntime", "openvino"):
        exporter, folder = Exporter(classifier, engine), tmp_path_factory.mktemp(engine)
        exporter.write(folder, None)
        made.append(ExportCandidate(exporter, None, folder))
    return made


def decided(
    candidates, sentences, tmp_path, monkeypatch, *, both: float, passes: bool = True
) -> decision.ExportDecision:
    """With ONNX Runtime said to be faster at short texts, and OpenVINO at long ones."""

    def said(folders, texts):
        return {name: times(*(4 * [both if name == "both" else 1.0])) for name in folders}

    def measured(engine):
        squares = engine.manifest.engine == "onnxruntime"
        table = tuple(tuple(b * (n * n / 100 if squares else 4.0) for n in (8, 32, 64)) for b in (1, 64))
        return BatchCosts((1, 64), (8, 32, 64), 1, table, table)

    monkeypatch.setattr(decision, "speeds", said)
    monkeypatch.setattr(decision, "measured_costs", measured)
    texts = [Example(text) for text in sentences[:40]] + [Example("word " * 60)] * 40
    return decision.decide(candidates, texts, lambda folder: passes, tmp_path / "both", lambda what: None)


def test_two_engines_share_the_lengths(candidates, sentences, tmp_path, monkeypatch):
    found = decided(candidates, sentences, tmp_path, monkeypatch, both=0.5)
    assert found.longer is not None
    assert (found.first.engine, found.longer[0].engine) == ("onnxruntime", "openvino")
    assert "2.00 x as fast as" in found.why
    (tmp_path / "out").mkdir()
    manifest = found.write(tmp_path / "out", {}, prepared=True)
    assert read_manifest(tmp_path / "out") == manifest
    assert joined(candidate.engine for candidate in found.candidates) == manifest.engine == "onnxruntime+openvino"
    assert joined(candidate.precision for candidate in found.candidates) == manifest.precision == "fp32"
    int8 = replace(found, first=replace(found.first, quantization=Quantization()))
    assert joined(candidate.precision for candidate in int8.candidates) == "int8+fp32"
    assert {"model.onnx", "model.xml", "model.blob"} <= manifest.files.keys()
    texts = [*sentences[:30], "word " * 60, *(f"{text} {text} {text}" for text in sentences[:10])]
    expected = Predictor(candidates[0].exporter.name).predict_proba(texts)
    used = []
    compute = OpenVinoRunner.load
    monkeypatch.setattr(
        OpenVinoRunner, "load", lambda self, *, shared: used.append(shared) or compute(self, shared=shared)
    )
    for threads in (1, 2):
        predictor = Predictor(str(tmp_path / "out"), threads=threads)
        short = [text for text in texts if predictor.engine.encode([Example(text)]).lengths[0] < found.from_tokens]
        assert 0 < len(short) < len(texts)
        used.clear()
        predictor.predict(short)
        assert not used, "what no text asks for is not loaded"
        np.testing.assert_allclose(predictor.predict_proba(texts), expected, atol=1e-4)
        assert used
        alone = np.concatenate([predictor.predict_proba([text]) for text in texts])
        np.testing.assert_allclose(alone, expected, atol=1e-4)


@pytest.mark.parametrize(("both", "passes"), [(0.97, True), (0.5, False)])
def test_one_engine_is_enough(candidates, sentences, tmp_path, monkeypatch, both, passes):
    """Where two are hardly faster, or not exact enough together."""
    found = decided(candidates, sentences, tmp_path, monkeypatch, both=both, passes=passes)
    assert found.longer is None
    assert found.figures().keys() == {"why", "ms_per_text"}


def test_a_compiled_model_opens_only_where_it_was_compiled(candidates, sentences, tmp_path, monkeypatch):
    exporter = candidates[1].exporter
    manifest = add_prepared(tmp_path, exporter.write(tmp_path, None))
    assert manifest.graphs[0].prepared == "model.blob"
    tmp_path.chmod(0o555)  # nothing is written where a folder is opened
    read: list[bool] = []
    original = OpenVinoRunner._prepared
    monkeypatch.setattr(
        OpenVinoRunner,
        "_prepared",
        lambda self, *rest: (found := original(self, *rest), read.append(found is not None))[0],
    )
    texts = [Example(text) for text in sentences[:20]]
    answers = []
    for kind in ("here", "elsewhere"):
        if kind == "elsewhere":
            monkeypatch.setattr(openvino_runner, "processor_flags", lambda: frozenset({"other"}))
        engine = open_exported(tmp_path, threads=1)
        answers.append(engine.run(engine.encode(texts)))
    assert read == [True, False]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    tmp_path.chmod(0o755)
    blob = tmp_path / "model.blob"
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(BortError, match="is not what was exported"):
        open_exported(tmp_path)


@pytest.mark.parametrize(("shared", "callers"), [(True, 1), (False, 2)])
def test_a_batch_is_timed_as_in_a_list(candidates, monkeypatch, shared, callers):
    """After one of another shape, for which OpenVINO prepares anew, and while all threads compute."""
    engine = open_exported(candidates[0].folder, threads=2)
    calls, together = {}, threading.Barrier(callers, timeout=10)

    def compute(feed):
        mine = calls.setdefault(threading.get_ident(), [])
        if not mine:
            together.wait()
        mine.append(feed["input_ids"].shape)

    monkeypatch.setattr(engine.runners[0], "opened", lambda shared: compute)
    assert timing._point(engine, 4, 32, shared=shared) > 0
    assert len(calls) == callers
    for shapes in calls.values():
        assert set(shapes[1::2]) == {(4, 32)}
        assert not {(4, 32)} & set(shapes[::2])


def test_measured_costs_grow(candidates):
    engine = open_exported(candidates[0].folder, threads=2)
    found = timing.measured_costs(engine)
    assert (found.threads, found.lengths[-1]) == (2, engine.max_length)
    for table in (np.array(found.alone), np.array(found.shared)):
        assert (table > 0).all()
        assert (np.diff(table, axis=0) >= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()
