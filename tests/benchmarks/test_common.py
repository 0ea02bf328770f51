from __future__ import annotations

import argparse
import json

import pytest
from benchmarks.common import (
    Benchmark,
    Shown,
    Target,
    interleaved,
    publish,
    ratio,
    ratios_by_round,
    table,
)


@pytest.mark.parametrize(
    ("relation", "value", "result"),
    [
        (">=", 2.0, "met"),
        (">=", 1.9999, "**MISSED**"),
        ("<=", 2.0, "met"),
        ("<=", 2.0001, "**MISSED**"),
        ("<", 1.9999, "met"),
        ("<", 2.0, "**MISSED**"),
    ],
)
def test_a_target_is_judged_on_the_unrounded_figure(relation, value, result):
    target = Target("x", value, relation, 2.0)
    assert target.result == result
    assert target.met == (result == "met")


@pytest.mark.parametrize(
    ("value", "error", "result"),
    [(0.5, 0.6, "level"), (0.6, 0.6, "level"), (0.7, 0.6, "met"), (-0.5, 0.6, "level"), (-0.7, 0.6, "**MISSED**")],
)
def test_within_its_standard_error_a_target_is_level(value, error, result):
    assert Target("x", value, ">=", 0.0, error=error).result == result


def test_a_target_in_words():
    target = Target("x", 12.3456, "<=", 60.0, " ms", error=1.234)
    assert (target.measured, target.wanted) == ("12.3 ± 1.2 ms", "<= 60 ms")
    assert Target("x", 0.0, ">=", -1.0, error=0.0).measured == "0"


def test_functions_take_turns_after_an_untimed_one():
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert "".join(calls) == "ab" + "abab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    with pytest.raises(ValueError, match="at least 1, not 0"):
        interleaved({}, rounds=0)


def test_ratios():
    assert ratio([2.0, 4.0, 30.0], [1.0, 2.0, 3.0]) == 2.0
    assert ratios_by_round([2.0, 6.0], [1.0, 2.0]).high == 3.0
    with pytest.raises(ValueError, match="zip"):
        ratios_by_round([1.0], [1.0, 2.0])


def test_a_table():
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_what_is_published_is_what_was_measured(tmp_path, capsys):
    def show(figures, settings):
        return Shown("about", f"{figures['x']} after {settings.rounds}", (Target("x", figures["x"], ">=", 2.0),))

    benchmark = Benchmark("thing", "speed", "Thing", "What?", (), show)
    (tmp_path / "results").mkdir()
    arguments = argparse.Namespace(rounds=3, data=tmp_path, files=[tmp_path], out=tmp_path)
    publish(benchmark, {"x": 1.5}, arguments, "thing_2")
    record = json.loads((tmp_path / "results" / "thing_2.json").read_text("utf-8"))
    assert record["figures"] == {"x": 1.5}
    assert record["settings"] == {"rounds": 3, "data": str(tmp_path), "files": [str(tmp_path)]}
    assert record["packages"]["torch"]
    assert {"commit", "date", "processor", "command", "python", "benchmark"} <= record.keys()
    assert "1.5 after 3" in (said := capsys.readouterr().out)
    assert "**MISSED**" in said
