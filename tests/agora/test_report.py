"""What the report and the model card of a run say about its texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.agora import report as module
from bort.agora.report import model_card
from bort.report import Report


@pytest.fixture
def metrics():
    def made(*kept):
        judged = {"test": {"accuracy": 0.9}, "test_confidence": {"accuracy": [0.8, 1.0]}}
        return judged | {
            "metric": "accuracy",
            "task": "classification",
            "labels": ["a", "b"],
            "model": "tiny",
            "rows": {"train": 80, "dev": 20, "test": 50},
            "held_out": False,
            "plain": judged,
            "linear_head": judged,
            "teacher": {"name": "T", "taught": True, **judged},
            "label_weights": {"teacher": 1.0, "student": 0.0},
            "last_training": None,
            "rounds": [{"kept": count} for count in kept],
            "best_theta": "",
            "best_round": 1,
        }

    return made


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((9, 0), "; 1 round added texts near the model's mistakes,\nlabelled by T."),
        ((9, 3, 0), "; 2 rounds added texts near the model's mistakes,\nlabelled by T."),
        ((0,), "; the rounds added none."),
    ],
)
def test_rounds_that_added_texts_are_counted(metrics, kept, said):
    assert said in model_card(Path("run"), metrics(*kept))


@pytest.mark.parametrize(
    ("best_round", "last", "said"),
    [
        (2, {"texts": 120, "epochs": 3}, "plain models trained on all given labels"),
        (1, {"texts": 100, "epochs": 3}, "the best model of each round"),  # the last training had the given texts alone
        (2, None, "the best model of each round"),
    ],
)
def test_whoever_shares_the_labelling_is_named(metrics, best_round, last, said):
    made = metrics(9) | {"label_weights": {"teacher": 0.5, "student": 0.5}}
    made |= {"best_round": best_round, "last_training": last}
    assert f"labelled by T together with {said}." in model_card(Path("run"), made)
    page = Report("r", "")
    module._weights(page, made)
    assert f"The teacher and {said} together" in page.text()


def test_a_linear_head_has_learned_the_labelled_texts_alone(metrics):
    grown = metrics(9, 0) | {"last_training": None, "result": "fine-tuned", "labels_used": {"result": 100}}
    assert module._learned_from(grown) == 89
    assert module._learned_from(grown | {"result": "head"}) == 100
