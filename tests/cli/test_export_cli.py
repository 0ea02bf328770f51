"""`bort export`: the gate decides, and what is written answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bort.export.report import export_report
from bort.export.timing import fastest
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def labelled(classifier, labelled_by, sentences) -> str:
    """Rows that the fp32 model answers rightly, all of them."""
    return labelled_by(classifier, sentences[:60])


def test_int8_that_passes_the_gate_is_written(bort, classifier, labelled, tmp_path):
    done = bort("export", "--model", classifier, "--out", tmp_path / "out", "--gate", labelled,
                "--max_drop", 100, "--calibrate", labelled, "--precision", "int8",
                "--engine", "onnxruntime")  # fmt: skip
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["gate"]["fp32"] == 100
    assert (metrics["gate"]["outcome"], metrics["precision"]) == ("passed", "int8")
    assert metrics["gate"]["rows"] == 45, "a quarter calibrates, and so does not judge"
    assert metrics["gate"]["moved"] > 0
    assert metrics["quantization"]["activations"] == "calibrated"
    assert "so it passed" in done.err
    assert (tmp_path / "out" / "report.html").is_file()
    assert len(Predictor(str(tmp_path / "out")).predict(["a", "b"])) == 2


@pytest.mark.parametrize("rows", [60, 3])
def test_int8_that_does_not_pass_is_refused(bort, classifier, labelled, tmp_path, rows):
    """On few rows nothing is shown, however well int8 does on them."""
    gate = tmp_path / "gate.jsonl"
    gate.write_text("".join(Path(labelled).read_text("utf-8").splitlines(keepends=True)[:rows]), "utf-8")
    words = ["export", "--model", classifier, "--out", tmp_path / "out", "--gate", gate, "--max_drop", 0.1,
             "--engine", "onnxruntime"]  # fmt: skip
    refused = bort(*words, "--precision", "int8")
    assert (refused.status, refused.out) == (2, "")
    last = refused.err.splitlines()[-1]
    for part in ("points of accuracy on", "Nothing is written", "--precision auto"):
        assert part in last
    assert {path.name for path in tmp_path.iterdir()} == {"gate.jsonl"}
    done = bort(*words, "--precision", "auto")
    assert done.status == 0, done.err
    assert "fp32 is written" in done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["precision"] == "fp32"
    assert metrics["gate"]["outcome"] in ("failed", "undecided")


def test_auto_takes_the_fastest_that_passes(bort, classifier, labelled, tmp_path):
    done = bort("export", "--model", classifier, "--out", tmp_path / "out", "--gate", labelled, "--max_drop", 100)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert done.status == 0, done.err
    times = metrics["ms_per_text"]
    assert {"onnxruntime-fp32", "onnxruntime-int8"} <= times.keys()
    if "longer" not in metrics:
        assert fastest(times) == f"{metrics['engine']}-{metrics['precision']}"
        assert f"{metrics['engine']}-{metrics['precision']} is written" in done.err
    manifest = read_manifest(tmp_path / "out")
    shown = {name: metrics[name] for name in metrics.keys() - {"model", "lost"}}  # no texts, no paths
    assert manifest.about == shown | {"positions": 64}
    assert (tmp_path / "out" / "report.html").read_text("utf-8") == export_report(metrics).text()
    assert all(graph.costs is not None for graph in manifest.graphs)
    for way, ms in times["onnxruntime-int8"].items():
        assert ms > 0
        for shown in (done.err, (tmp_path / "out" / "report.html").read_text("utf-8")):
            assert way in shown


def test_without_a_gate(bort, classifier, tmp_path):
    assert bort("export", "--model", classifier, "--out", tmp_path / "a").out.count("fp32") == 1
    done = bort("export", "--model", classifier, "--out", tmp_path / "b", "--precision", "int8")
    assert (done.status, read_manifest(tmp_path / "b").graphs[0].activations) == (0, "dynamic")
    assert "one by one" in done.err
    words = ["export", "--model", classifier, "--out", tmp_path / "c", "--precision", "int8", "--activations"]
    bort(*words, "calibrated").refused("give --calibrate or --gate")
    bort(*words, "dynamic", "--engine", "openvino").refused("is calibrated", "dynamic")
    bort("export", "--model", classifier, "--out", tmp_path / "a").refused("already exists")
    bort("export", "--model", classifier, "--out", tmp_path / "c", "--max_drop", "-1").refused("at least 0")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_what_would_be_without_effect_is_refused(bort, classifier, tmp_path):
    (tmp_path / "empty.txt").touch()
    words = ["export", "--model", classifier, "--out", tmp_path / "out"]
    bort(*words, "--min-cosine", 0.5).refused("--min-cosine: value 0.5: is for encoders")
    bort(*words, "--calibrate", tmp_path / "empty.txt").refused("empty.txt: holds no texts")


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


def test_answers_that_are_not_sure_enough(bort, classifier, labelled, tmp_path):
    rows = [json.loads(line) for line in Path(labelled).read_text("utf-8").splitlines()]
    for row in rows[::3]:
        row["label"] = "cat"
    (tmp_path / "gate.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ["export", "--model", classifier, "--precision", "fp32", "--engine", "onnxruntime", "--out"]
    words += [tmp_path / "out"]
    bort(*words, "--min_precision", 0.9).refused("--gate")
    bort(*words, "--min_precision", 2, "--gate", labelled).refused("at most 1", "2.0")
    words += ["--gate", tmp_path / "gate.jsonl", "--min_precision"]
    done = bort(*words, 0.9)
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["thresholds"]
    assert metrics["by_label"]["cat"] == 0
    assert max(metrics["by_label"].values()) > 0
    for label, least in metrics["by_label"].items():
        assert (repr(label) in done.err.partition("never answered: ")[2]) == (least == 1)
    assert read_manifest(tmp_path / "out").thresholds == metrics["by_label"]
    answers = bort("predict", "--model", tmp_path / "out", "--input", tmp_path / "gate.jsonl").rows()
    given = [(a, row) for a, row in zip(answers, rows, strict=True) if a["prediction"] is not None]
    assert len(given) / len(rows) == pytest.approx(metrics["answered"])
    assert sum(a["prediction"] == row["label"] for a, row in given) / len(given) == pytest.approx(metrics["right"])
    assert metrics["right"] >= 0.9
    for row in answers:
        likeliest = max(metrics["by_label"], key=lambda name: row[f"p({name})"])
        assert row["prediction"] in (None, likeliest)
    table = bort("predict", "--model", tmp_path / "out", "--input", tmp_path / "gate.jsonl", "--output_format", "csv")
    assert table.out.count(",,") == len(rows) - len(given)


def test_a_regression_has_no_thresholds(bort, regressor, world, tmp_path):
    words = ["export", "--model", regressor, "--gate", world.regression, "--out", tmp_path / "out"]
    bort(*words, "--min_precision", 0.5).refused("is for classifiers")
    assert bort(*words, "--max_drop", 100).status == 0
    assert (tmp_path / "out" / "report.html").is_file()
