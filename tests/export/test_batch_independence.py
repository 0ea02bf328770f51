"""What stands beside a text does not change its answer: alone, in a batch, in any order, in any window."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.export.exporter import Exporter
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor

KINDS = ["torch", "onnxruntime fp32", "onnxruntime calibrated", "onnxruntime dynamic", "openvino fp32", "openvino int8"]


@pytest.fixture(scope="module", params=KINDS)
def predictor(request, classifier, sentences, tmp_path_factory) -> tuple[Predictor, float]:
    """A predictor, and how far an answer may move."""
    engine, _, precision = request.param.partition(" ")
    if engine == "torch":
        return Predictor(classifier), 1e-5
    pytest.importorskip(engine)
    exporter = Exporter(classifier, engine)
    folder, fp32 = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("fp32")
    exporter.write(fp32, None)
    if precision == "fp32":
        return Predictor(str(fp32), threads=2), 1e-5
    if precision != "dynamic":
        exporter.calibrate(fp32, [Example(text) for text in sentences[:40]])
    if engine == "openvino":
        pytest.importorskip("nncf")
    exporter.write(folder, Quantization())
    assert read_manifest(folder).graphs[0].activations == ("dynamic" if precision == "dynamic" else "calibrated")
    return Predictor(str(folder), threads=2), 0.0


def test_company_does_not_matter(predictor, sentences):
    asked, most = predictor
    rng = random.Random(0)
    examples = [Example(" ".join(rng.sample(sentences, rng.choice([1, 1, 1, 2, 3])))) for _ in range(60)]
    examples += [Example(rng.choice(sentences), rng.choice(["", *sentences])) for _ in range(20)]
    examples += [Example(text) for text in ("", "a", "word " * 90)]
    alone = np.concatenate([asked.logits([example]) for example in examples])
    assert np.ptp(alone, axis=0).min() > 0.3, "the answers should differ, or the test says nothing"
    for _ in range(3):
        order = rng.sample(range(len(examples)), len(examples))
        shuffled = [examples[place] for place in order]
        for window in (len(examples), rng.randint(2, 9)):
            parts = [asked.logits(shuffled[start : start + window]) for start in range(0, len(shuffled), window)]
            found = np.concatenate(parts)
            if most:
                np.testing.assert_allclose(found, alone[order], atol=most)
            else:
                np.testing.assert_array_equal(found, alone[order])
