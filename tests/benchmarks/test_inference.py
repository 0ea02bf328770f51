"""The benchmark of inference: its targets, its baseline, and a simulated scaling that no machine can beat."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from benchmarks.speed.inference import Found, before, row, targets_of
from benchmarks.speed.rivals import texts_of
from benchmarks.speed.scaling import SIMULATED, measured, simulated

from bort.data.tables.examples import Example
from bort.export.exporter import Exporter
from bort.predict.costs import usual_costs
from bort.predict.engine import open_exported
from bort.speed.race import natural

pytest.importorskip("onnxruntime")


def test_targets_are_of_the_best_engine():
    rows = [row("bort", engine, "128 tokens", 1, 128, [ms / 1000])
            for engine, ms in (("onnxruntime-int8", 13.5), ("openvino-int8", 11.2))]  # fmt: skip
    rows.append(row("bert-large", "torch-eager", "128 tokens", 1, 128, [0.7]))
    [target] = targets_of(Found({"results": rows}), {})
    assert "openvino-int8" in target.what
    assert target.value == pytest.approx(700 / 11.2)
    assert target.result == "**MISSED**"
    ratios = {load: {"median": 1.3} for load in ("8 texts", "32 texts")}
    found = targets_of(Found({"results": rows}), {"bort onnxruntime-fp32": ratios})
    assert [one.result for one in found[1:]] == ["met", "met"]


def test_a_ratio_is_that_of_each_round():
    """The clock of the processor may change from round to round."""
    rows = [row("bort", "openvino-int8", "128 tokens", 1, 128, [0.010, 0.020, 0.040]),
            row("bert-large", "torch-eager", "128 tokens", 1, 128, [1.0, 1.8, 4.4])]  # fmt: skip
    own, other = ("bort", "openvino-int8"), ("bert-large", "torch-eager")
    assert Found({"results": rows}).ratio(own, other, "128 tokens") == pytest.approx(100)


def test_texts_are_about_as_long_as_is_said():
    lengths = natural(50).lengths
    texts = texts_of(lengths)
    assert [len(text.split()) + 2 for text in texts] == [max(3, length) for length in lengths]
    assert texts == texts_of(lengths)


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    made = tmp_path_factory.mktemp("exported")
    manifest = Exporter(classifier).write(made, None)
    graph = dataclasses.replace(manifest.graphs[0], costs=usual_costs(manifest.max_length))
    dataclasses.replace(manifest, graphs=(graph,)).write(made)
    return made


@pytest.mark.parametrize("threads", [1, 2])
def test_the_baseline_computes_every_row(folder, sentences, threads, monkeypatch):
    engine = open_exported(folder, threads)
    encoded, seen = engine.encode([Example(text) for text in sentences[:40]]), []
    batch = engine.batch
    monkeypatch.setattr(engine, "batch", lambda encoded, places: seen.extend(places) or batch(encoded, places))
    with ThreadPoolExecutor(threads) as pool:
        before(engine, encoded, pool)
    assert sorted(seen) == list(range(40))


def test_simulated_scaling(folder):
    found = simulated(open_exported(folder).manifest, 512)
    assert all(1 <= times <= threads + 1e-9 for times, threads in zip(found, SIMULATED, strict=True))
    assert np.all(np.diff(found) >= 0)


def test_measured_scaling(folder):
    found = measured(folder, [8], 2, vocab_size=300)
    assert {name: len(seconds) for name, seconds in found.items()} == {"8 1": 2, "8 2": 2}
