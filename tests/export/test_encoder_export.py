"""The gate of an encoder."""

from __future__ import annotations

import dataclasses

import pytest

from bort.data.tables.examples import Example
from bort.export import encoder_export
from bort.export.arguments import ExportArguments
from bort.export.data import ExportData
from bort.export.encoder_export import EncoderExport, _vectors, cosines
from bort.export.exporter import Exporter
from bort.predict.graph.quantization import Quantization

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("texts", ["abcdef", "aaabbbccc", "aab", "aa", "a", ""])
def test_copies_of_a_text_do_not_both_calibrate_and_judge(tmp_path, texts):
    examples = [Example(text) for text in texts]
    arguments = ExportArguments("model", str(tmp_path / "out"))
    made = EncoderExport(arguments, ExportData(arguments, (), (), (), examples), tmp_path, lambda what: None)
    judging, calibrating = ({example.text for example in part} for part in (made.judging, made.calibrating))
    assert judging | calibrating == {*texts}
    assert bool(judging & calibrating) == (len({*texts}) == 1)
    assert len(judging) == min(len({*texts}), max(1, len({*texts}) // 3))


def test_a_folder_of_two_engines_passes_on_all_processors_or_not_at_all(
    teacher_folder, sentences, tmp_path, monkeypatch
):
    texts = [Example(text) for text in sentences[:60]]
    exporter = Exporter(teacher_folder)
    for name, quantization in (("fp32", None), ("int8", Quantization())):
        (tmp_path / name).mkdir()
        exporter.write(tmp_path / name, quantization)
    arguments = ExportArguments(teacher_folder, str(tmp_path / "out"))
    gate = EncoderExport(arguments, ExportData(arguments, (), (), (), texts), tmp_path, lambda what: None)
    gate._exact = _vectors(tmp_path / "fp32", gate.judging)
    seven, eight = (
        float(cosines(gate._exact, _vectors(tmp_path / "int8", gate.judging, bits)).mean()) for bits in (7, 8)
    )
    assert seven < eight, "the test wants a model that needs 8 bits"
    monkeypatch.setattr(encoder_export, "weight_bits", lambda: 8)
    for least, passes in ((seven - 1e-6, True), ((seven + eight) / 2, False)):
        gate.arguments = dataclasses.replace(arguments, min_cosine=least)
        assert gate.passes(tmp_path / "int8") is passes
