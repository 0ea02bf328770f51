"""8 bits of weights where the processor can multiply them, 7 elsewhere, from the same folder."""

from __future__ import annotations

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.export.exporter import Exporter
from bort.predict import int8_weights
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.int8_weights import narrowed, processor_flags, weight_bits


def test_weights_are_narrowed_once():
    whole = np.arange(-127, 128, dtype=np.int8)
    seven, factor = narrowed(whole)
    assert (seven.min(), seven.max(), seven.dtype) == (-63, 63, np.int8)
    assert np.abs(seven * factor - whole).max() <= factor / 2 + 1e-6
    assert narrowed(seven) is None
    assert narrowed(np.zeros((0, 3), np.int8)) is None
    assert narrowed(np.array([-128], np.int8)) is not None


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("flags\t\t: fpu avx2 avx512f\n", 7),
        ("flags\t\t: fpu avx_vnni\n", 8),
        ("flags\t\t: fpu avx512_vnni\nflags : fpu\n", 8),
        ("Features\t: fp asimd i8mm\n", 8),
        ("Features\t: fp asimd asimddp\n", 7),
        ("", 7),
    ],
)
def test_flags_decide(text, bits, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(int8_weights.platform, "system", lambda: "Linux")
    monkeypatch.setattr(int8_weights, "Path", lambda name: tmp_path / "cpuinfo")
    for cached in (processor_flags, weight_bits):
        cached.cache_clear()
    try:
        assert weight_bits() == bits
    finally:
        for cached in (processor_flags, weight_bits):
            cached.cache_clear()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("activations", ["calibrated", "dynamic"])
def test_a_folder_is_narrowed_where_it_is_opened(classifier, sentences, tmp_path, engine, activations):
    """What is answered on a processor without VNNI lies as near to fp32 as 7 bits do, and is not what 8 bits say."""
    pytest.importorskip(engine)
    if engine == "openvino":
        pytest.importorskip("nncf")
        if activations == "dynamic":
            pytest.skip("int8 of OpenVINO is calibrated")
    exporter, examples = Exporter(classifier, engine), [Example(text) for text in sentences[:60]]
    for name in ("fp32", "int8"):
        (tmp_path / name).mkdir()
    exporter.write(tmp_path / "fp32", None)
    if activations == "calibrated":
        exporter.calibrate(tmp_path / "fp32", examples)
    exporter.write(tmp_path / "int8", Quantization())

    def logits(name: str, bits: int) -> np.ndarray:
        opened = open_exported(tmp_path / name, threads=1, weight_bits=bits)
        return opened.run(opened.encode(examples))

    exact, eight, seven = logits("fp32", 8), logits("int8", 8), logits("int8", 7)
    apart = [float(np.abs(found - exact).mean()) for found in (eight, seven)]
    assert np.abs(eight - seven).max() > 0
    assert 0 < apart[0] < apart[1] < 8 * apart[0]
