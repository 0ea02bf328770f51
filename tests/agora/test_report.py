"""What the report and the model card of a run say about its texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.agora import report as module
from bort.agora.report import model_card


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
            "label_weights": {"student": 0.0},
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


def test_a_linear_head_has_learned_the_labelled_texts_alone(metrics):
    grown = metrics(9, 0) | {"last_training": None, "result": "fine-tuned", "labels_used": {"result": 100}}
    assert module._learned_from(grown) == 89
    assert module._learned_from(grown | {"result": "head"}) == 100
