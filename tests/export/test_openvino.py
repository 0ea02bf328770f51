"""OpenVINO: it answers as PyTorch does, and is loaded alone."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def exporter(classifier) -> Exporter:
    return Exporter(classifier, "openvino")


@pytest.fixture(scope="module")
def fp32(exporter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp32")
    exporter.write(folder, None)
    return folder


def test_fp32_answers_as_pytorch_does(exporter, fp32, sentences):
    assert exporter.check(fp32) < 1e-4
    examples = [Example(text, other) for text, other in zip(sentences[:20], sentences[20:40], strict=True)]
    examples += [Example(text) for text in sentences[:40]]
    ours, theirs = Predictor(str(fp32), threads=1), Predictor(exporter.name)
    np.testing.assert_allclose(ours.logits(examples), theirs.logits(examples), atol=1e-4)
    np.testing.assert_allclose(ours.logits(examples[:1]), theirs.logits(examples[:1]), atol=1e-4)
    manifest = read_manifest(fp32)
    assert (manifest.engine, manifest.graphs[0].model, {*manifest.files}) == (
        "openvino",
        "model.xml",
        {"model.xml", "model.bin", "tokenizer.json"},
    )


def test_int8_is_near_and_blocks_stay_in_fp32(exporter, fp32, tmp_path, sentences):
    pytest.importorskip("nncf")
    examples = [Example(text) for text in sentences[:60]]
    expected = Predictor(str(fp32)).logits(examples)
    with pytest.raises(BortError, match="needs texts to calibrate on"):
        Exporter(exporter.name, "openvino").write(tmp_path, Quantization())
    exporter.calibrate(fp32, examples)
    assert exporter.form.blocks == ("layer.0", "layer.1")
    offs = []
    for number, kept in enumerate([frozenset(), frozenset({"layer.0"}), frozenset(exporter.form.blocks)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert exporter.write(folder, Quantization(kept)).precision == "int8"
        offs.append(float(np.abs(Predictor(str(folder)).logits(examples) - expected).max()))
        quantized = (folder / "model.xml").read_text().count('type="FakeQuantize"')
        assert (quantized == 0) == (number == 2)
    assert offs[0] > offs[2]
    assert offs[2] < 1e-5, "with every block kept it is the fp32 model"


def test_a_tampered_file_is_not_opened(fp32):
    for name in ("model.xml", "model.bin"):
        before = (fp32 / name).read_bytes()
        (fp32 / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(BortError, match=f"{name}: is not what was exported"):
            Predictor(str(fp32))
        (fp32 / name).write_bytes(before)
    manifest = fp32 / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_bytes(before.replace(b'"model.bin"', b'"other.bin"'))
    with pytest.raises(BortError, match="is not there"):
        Predictor(str(fp32))
    manifest.write_bytes(before)


def test_nothing_else_is_loaded_and_nobody_is_told(fp32, python):
    code = f"""
import sys, bort
assert len(bort.Predictor({str(fp32)!r}, threads=1).predict(["The old baker", ("a", "b")] * 300)) == 600
heavy = {{"torch", "transformers", "nncf", "onnx", "onnxruntime", "datasets", "sklearn", "scipy", "pandas"}}
print(sorted(heavy & sys.modules.keys()), sys.modules["openvino_telemetry"])
"""
    assert python(code).stdout == "[] None\n"


def test_without_the_packages(exporter, fp32, tmp_path, monkeypatch):
    exporter.calibrate(fp32, [Example("a text")])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(BortError, match=r"int8: pip install bort\[openvino\]"):
        exporter.write(tmp_path, Quantization())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BortError, match=r"pip install bort\[openvino\]"):
        Predictor(str(fp32))


def test_what_computes_holds_the_weights_it_reads(fp32, sentences):
    """They are mapped: let go with the runner, they were read from memory that is no more."""
    from bort.predict.engine import open_exported

    engine = open_exported(fp32, 1)
    examples = [Example(text) for text in sentences[:1]]
    expected = Predictor(str(fp32), threads=1).logits(examples)
    feed = engine.batch(engine.encode(examples), range(1))
    compute = engine.runners[0].opened(shared=True)
    del engine
    gc.collect()
    np.testing.assert_allclose(compute(feed), expected, atol=1e-5)


_DROPPED = """
import faulthandler, gc, signal, subprocess, sys, threading
import numpy as np
import openvino
from openvino import opset13
from bort.predict.openvino_runner import _core
faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda *_: None)  # as PyTorch's data loader does
given = opset13.parameter([1, 4], np.float32)
held = [_core().compile_model(openvino.Model([opset13.relu(given)], [given], "m"), "CPU")]
def drop():
    held.clear()
    gc.collect()
thread = threading.Thread(target=drop)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGCHLD")
def test_a_signal_after_another_thread_has_dropped_the_last_model_does_no_harm(python):
    python(_DROPPED)
