"""What a search shows: a live table in a terminal, lines in a log, nothing on standard output."""

from __future__ import annotations

import io
import math
import sys

import pytest

from bort.ose.algorithm import Candidate, Evaluation
from bort.ose.criteria import Cost
from bort.ose.display import display
from bort.ose.ordering import Ranked
from bort.ose.space import Shape


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def candidate(depth: int, error: float, weight: float, failure: Exception | None = None) -> Candidate[Shape]:
    ranked = Ranked(Shape(depth, 2, 128, 256), Cost(2_500_000.0, 3e8), depth, depth, True)
    return Candidate(ranked, Evaluation(error, {"seconds": 2.0}, failure), weight)


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def run(err: io.StringIO) -> str:
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with display(200, "ms") as live:
            live.training(Shape(1, 2, 128, 256), "step 1 of 9, distance 2.000")
            live.done(candidate(1, 6.5, 0.11))
            live.done(candidate(2, math.nan, 0.0))
            live.done(candidate(3, 6.25, 0.12))
            live.done(candidate(4, math.nan, 0.0, OverflowError("too large")))
        assert out.getvalue() == ""
        return err.getvalue()

    return run


def test_a_table_in_a_terminal_with_the_best_first(shown):
    last = shown(Terminal()).split("4 of 200 candidates")[-1]
    assert "about 7 min left" in last
    assert last.index("⟨3,2,128,256⟩") < last.index("⟨1,2,128,256⟩") < last.index("⟨2,2,128,256⟩")
    assert "2.50 M" in last
    assert "diverged" in last
    assert "OverflowError" in last


@pytest.mark.parametrize("colours", [None, "1"])
def test_a_line_each_in_a_log(shown, monkeypatch, colours):
    if colours:
        monkeypatch.setenv("FORCE_COLOR", colours)
    assert shown(io.StringIO()).splitlines() == [
        "1 of 200: ⟨1,2,128,256⟩ error 6.500, W 0.1100, 2.0 s",
        "2 of 200: ⟨2,2,128,256⟩ diverged, 2.0 s",
        "3 of 200: ⟨3,2,128,256⟩ error 6.250, W 0.1200, 2.0 s",
        "4 of 200: ⟨4,2,128,256⟩ failed: too large, 2.0 s",
    ]
