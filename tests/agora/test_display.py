"""Each bar of a run goes from nothing to the end, whatever the number of combinations in the grid."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from bort import progress
from bort.agora.display import RunDisplay
from bort.agora.rounds import Slot, Trial
from bort.finetuning.hyper_parameters import HyperParameters

THETAS = [HyperParameters(rate, 0, 0.01, 0.1, 8) for rate in (1e-4, 1e-3)]


@pytest.fixture
def lines(monkeypatch, capsys):
    """What a log is told, as if each update came after a while."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)

    def told() -> list[str]:
        return [line.replace(" after 0 s", "") for line in capsys.readouterr().err.splitlines()]

    return told


def test_a_round_with_fewer_combinations_reaches_the_end(lines):
    display = RunDisplay(THETAS, "accuracy", rounds=True)
    with display.trainings(2, 1):
        display.progress(Slot(2, 0), asdict(THETAS[1]), 0.5, "best accuracy 0.750")
        display.trial(Slot(2, 0), Trial(asdict(THETAS[1]), 0.8, [], None))
    assert lines() == [
        "round 2: 50 % learning_rate=0.001: best accuracy 0.750",
        "round 2: 100 % learning_rate=0.001: 0.800",
    ]


def test_seeds_are_shown_exactly():
    thetas = [HyperParameters(5e-4, seed, 0.01, 0.1, 16) for seed in (20240501, 20240502)]
    assert RunDisplay(thetas, "accuracy", rounds=True).short(asdict(thetas[0])) == "seed=20240501"
    assert str(thetas[1]) == "learning_rate=0.0005 seed=20240502 weight_decay=0.01 warmup=0.1 batch_size=16"


def test_a_combination_that_failed_is_done_too(lines):
    display = RunDisplay(THETAS, "accuracy", rounds=False)
    with display.trainings(1, 2):
        display.failure(Slot(1, 0), asdict(THETAS[0]), ValueError("no"))
        display.progress(Slot(1, 1), asdict(THETAS[1]), 0.5, "")
    assert [line for line in lines() if line.startswith("fine-tuning")] == [
        "fine-tuning: 50 %",
        "fine-tuning: 75 % learning_rate=0.001",
    ]


def test_the_last_trainings_are_counted(lines):
    display = RunDisplay(THETAS, "accuracy", rounds=True)
    for count in (3, 1):  # plain models, and the training on everything
        with display.trainings(0, count):
            for place in range(count):
                display.progress(Slot(0, place), asdict(THETAS[0]), 0.5, "")
                display.ended()
    told = [line.split()[2] for line in lines()]
    assert told == ["17", "33", "50", "67", "83", "100", "50", "100"]
