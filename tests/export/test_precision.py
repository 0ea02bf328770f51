"""The choice of a precision on labelled rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.export import precision
from bort.export.exporter import Exporter
from bort.export.precision import Trials
from bort.export.report import export_report
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.predictor import Predictor

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def trials(classifier, sentences, tmp_path_factory) -> Trials:
    """Of a model that int8 does not go well with, on rows that fp32 answers rightly, all of them."""
    folders = [tmp_path_factory.mktemp(name) for name in ("fp32", "work")]
    exporter = Exporter(classifier)
    exporter.write(folders[0], None)
    answers = Predictor(classifier).predict(sentences)
    rows = [
        Example(text, label=answer.label, source="g", line=line)
        for line, (text, answer) in enumerate(zip(sentences, answers, strict=True), 1)
    ]
    return Trials(exporter, folders[0], rows, 0.0, folders[1], lambda _: None)


def test_a_mixture_is_found_where_int8_fails(trials):
    refused = dataclasses.replace(trials, max_drop=-1000.0).choose(Quantization(), "int8")
    assert refused.quantization is None
    assert refused.verdict is refused.whole
    assert refused.movement.keys() == {"embeddings", "layer.0", "layer.1", "pooler"}
    assert min(refused.movement.values()) > 0
    worst = max(refused.movement, key=refused.movement.__getitem__)
    exact = Predictor(str(trials.fp32)).logits(trials.rows)
    mixed = trials._tried(Quantization(frozenset({worst})), exact, "")
    drops = []
    for bits in (7, 8):
        engine = open_exported(trials.work, weight_bits=bits)
        tried = engine.run(engine.encode(trials.rows))
        drops.append(100 * float((tried.argmax(-1) != exact.argmax(-1)).mean()))
    drop = max(drops)
    assert drop < refused.whole.drop, "the test wants a block that hurts"
    assert mixed.drop == pytest.approx(drop), "what a processor without VNNI loses counts, too"
    assert mixed.high < refused.whole.high, "the test wants a block that hurts"
    between = dataclasses.replace(trials, max_drop=(mixed.high + refused.whole.high) / 2)
    choice = between.choose(Quantization(), "int8")
    assert choice.kept == [worst]
    assert (choice.verdict.passed, choice.whole.passed) == (True, False)
    assert choice.verdict.drop == pytest.approx(drop)
    assert choice.verdict == dataclasses.replace(mixed, max_drop=between.max_drop, rows_to_decide=None)
    figures = choice.figures()
    assert figures["kept_fp32"] == [worst]
    assert figures["whole_int8"] < figures["int8"]
    assert sum(figures["blocks"].values()) == pytest.approx(1)
    page = export_report({"model": "m", "precision": "int8", "gate": figures, "lost": choice.verdict.lost}).text()
    assert worst in page
    assert f"int8 but for 1 of {len(refused.movement)}" in page
    assert all(row["text"].split("'")[0] in page for row in choice.verdict.lost[:50])


def test_a_finished_folder_is_judged_by_the_worse_of_both_widths(trials, monkeypatch):
    """As of two engines, whose weights are narrowed in both."""
    trials._write(Quantization(), "int8")
    exact = Predictor(str(trials.fp32)).logits(trials.rows)
    engines = [open_exported(trials.work, weight_bits=bits) for bits in (7, 8)]
    lost = [(engine.run(engine.encode(trials.rows)).argmax(-1) != exact.argmax(-1)).mean() for engine in engines]
    assert lost[0] > lost[1], "the test wants a model that needs 8 bits"
    monkeypatch.setattr(precision, "weight_bits", lambda: 8)
    assert trials.judged(trials.work).drop == pytest.approx(100 * lost[0])


def test_what_is_not_wanted_is_scored_all_the_same(trials):
    whole = dataclasses.replace(trials, max_drop=100.0)
    assert whole.choose(Quantization(), "int8").quantization == Quantization()
    choice = whole.choose(Quantization(), "fp32")
    assert choice.quantization is None
    assert choice.verdict.drop > 0


def test_a_regression_shows_where_it_is_further_off(regressor, sentences, tmp_path):
    exporter = Exporter(regressor)
    for name in ("fp32", "work"):
        (tmp_path / name).mkdir()
    exporter.write(tmp_path / "fp32", None)
    rows = [Example(text, label=answer.label + 0.01) for text, answer in
            zip(sentences[:40], Predictor(regressor).predict(sentences[:40]), strict=True)]  # fmt: skip
    choice = Trials(exporter, tmp_path / "fp32", rows, 100.0, tmp_path / "work", lambda _: None).choose(
        Quantization(), "int8"
    )
    lost = [abs(float(row["int8"]) - float(row["label"])) - abs(float(row["fp32"]) - float(row["label"]))
            for row in choice.verdict.lost]  # fmt: skip
    assert lost == sorted(lost, reverse=True) or np.allclose(lost, sorted(lost, reverse=True), atol=2e-3)
    assert 0 < len(lost) <= 40
    page = export_report({"model": "m", "precision": "int8", "gate": choice.figures(), "lost": choice.verdict.lost})
    assert "Further off in int8" in page.text()
