"""`bort export`: the gate decides, and what is written answers."""

from __future__ import annotations

import json

import pytest

from bort.runtime.predictor import Predictor

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def labelled(classifier, sentences, tmp_path_factory) -> str:
    """Rows that the fp32 model answers rightly, all of them."""
    file = tmp_path_factory.mktemp("gate") / "gate.jsonl"
    answers = Predictor(classifier).predict(sentences[:60])
    rows = [{"text": text, "label": a.label} for text, a in zip(sentences, answers, strict=False)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def test_the_gate_decides(bort, classifier, labelled, tmp_path):
    for max_drop in (100, 0):
        done = bort("export", "--model", classifier, "--out", tmp_path / str(max_drop), "--gate", labelled,
                    "--max_drop", max_drop, "--calibrate", labelled)  # fmt: skip
        assert done.status == 0, done.err
        metrics = json.loads((tmp_path / str(max_drop) / "metrics.json").read_text())
        assert metrics["gate"]["fp32"] == 100
        assert metrics["gate"]["passed"] == (metrics["gate"]["drop"] <= max_drop)
        assert metrics["precision"] == ("int8" if metrics["gate"]["passed"] else "fp32")
        assert (tmp_path / str(max_drop) / "report.html").is_file()
        assert len(Predictor(str(tmp_path / str(max_drop))).predict(["a", "b"])) == 2


def test_without_a_gate(bort, classifier, tmp_path):
    assert bort("export", "--model", classifier, "--out", tmp_path / "a").out.count("fp32") == 1
    assert bort("export", "--model", classifier, "--out", tmp_path / "b", "--precision", "int8").status == 0
    bort("export", "--model", classifier, "--out", tmp_path / "a").refused("already exists")
    bort("export", "--model", classifier, "--out", tmp_path / "c", "--max_drop", "-1").refused("at least 0")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_openvino(bort, classifier, labelled, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    words = ["export", "--model", classifier, "--engine", "openvino", "--precision", "int8", "--out"]
    bort(*words, tmp_path / "a").refused("give --calibrate or --gate")
    done = bort(*words, tmp_path / "b", "--gate", labelled, "--max_drop", 100)
    assert done.status == 0, done.err
    assert done.out.count("\n") == 1, "nothing but the result is said on standard output"
    answers = bort("predict", "--model", tmp_path / "b", "--input", labelled).rows()
    assert len(answers) == 60
    assert {path.name for path in tmp_path.iterdir()} == {"b"}
