"""An exported model of several labels answers as the one it came from, and the gate judges its labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.export.arguments import ExportArguments
from bort.export.gate import judge
from bort.export.report import export_report
from bort.export.run import export_model
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor
from bort.predict.thresholds import Thresholds
from bort.tasks.multilabel import MultiLabel

pytest.importorskip("onnxruntime")
TASK = MultiLabel(("a", "b"), "f1_micro", thresholds=(0.5, 0.5))


@pytest.fixture(scope="module")
def gate(multilabeller, labelled_by, sentences) -> str:
    """Rows with the labels that the model gives."""
    return labelled_by(multilabeller, sentences[:80])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_keeps_labels_and_thresholds(multilabeller, gate, sentences, tmp_path, precision):
    out = tmp_path / "out"
    arguments = ExportArguments(
        model=multilabeller, out=str(out), precision=precision, gate=gate, max_drop=100, engine="onnxruntime"
    )
    metrics = export_model(arguments)
    assert metrics["gate"]["metric"] == "f1_micro"
    assert metrics["gate"]["fp32"] == 100
    with Predictor(multilabeller) as source, Predictor(str(out)) as exported:
        assert exported.task == source.task
        assert read_manifest(out).thresholds == source.task.threshold_by_name
        ours, theirs = exported.predict_proba(sentences), source.predict_proba(sentences)
        np.testing.assert_allclose(ours, theirs, atol=1e-5 if precision == "fp32" else 0.5)
        if precision == "fp32":
            assert [a.label for a in exported.predict(sentences)] == [a.label for a in source.predict(sentences)]
    page = (out / "report.html").read_text("utf-8")
    assert "More labels wrong in int8 than in fp32" in page


def test_thresholds_of_a_least_precision(multilabeller, gate, tmp_path):
    out = tmp_path / "out"
    settings = {"gate": gate, "precision": "fp32", "engine": "onnxruntime", "min_precision": 0.9}
    metrics = export_model(ExportArguments(model=multilabeller, out=str(out), **settings))
    with Predictor(str(out)) as exported:
        assert exported.task.threshold_by_name == metrics["thresholds"]["by_label"]
    assert metrics["thresholds"]["right"] >= 0.9
    written = json.loads((out / "metrics.json").read_text("utf-8"))
    assert (out / "report.html").read_text("utf-8") == export_report(written).text()


def test_the_least_threshold_of_each_label():
    """By hand: a is right above 0.4 in 2 of 3, above 0.5 in 2 of 2; b is never right."""
    p = np.array([[0.9, 0.9], [0.6, 0.8], [0.5, 0.1], [0.4, 0.2]])
    outputs = np.log(p / (1 - p)).astype(np.float32)
    truth = [("a",), ("a",), (), ("a",)]
    examples = [Example("x", None, label) for label in truth]
    found = Thresholds.learned(TASK, outputs, examples, 0.9)
    assert found.by_label == pytest.approx({"a": 0.5, "b": 1.0})
    assert (found.answered, found.right) == (0.5, 1.0)
    assert found.counts["a"] == (4, 2, 2)


def test_the_gate_by_hand():
    """Ten rows of two labels; int8 loses one label of a row, and gives one too many to another."""
    truth = [("a", "b")] * 5 + [()] * 5
    exact = np.array([[3.0, 3.0]] * 5 + [[-3.0, -3.0]] * 5, np.float32)
    moved = exact.copy()
    moved[0, 1], moved[9, 0] = -1.0, 1.0
    examples = [Example(f"text {n}", None, label, "gate.jsonl", n + 1) for n, label in enumerate(truth)]
    verdict = judge(TASK, exact, moved, examples, 0.5)
    assert verdict.fp32 == 100
    assert verdict.int8 == pytest.approx(100 * 2 * 9 / (10 + 10))
    assert [tuple(row.values()) for row in verdict.lost] == [
        ("gate.jsonl:1", "a; b", "a; b", "a", "text 0"),
        ("gate.jsonl:10", "(none)", "(none)", "a", "text 9"),
    ]
    assert not verdict.passed
    assert judge(TASK, *[np.tile(exact, (100, 1))] * 2, examples * 100, 0.5).passed
