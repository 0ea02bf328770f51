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
            "teacher": {"name": "T", "taught": True, "weak": False, **judged},
            "label_weights": {"teacher": 1.0, "student": 0.0},
            "last_training": None,
            "rounds": [{"kept": count, "train_size": 80 + sum(kept[:n])} for n, count in enumerate(kept)],
            "nothing_added": None if any(kept) else "time was up",
            "best_theta": "",
            "best_round": 2,
            "result": "fine-tuned",
        }

    return made


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((9, 0), "; 1 round added texts near the model's mistakes,\nlabelled by T."),
        ((9, 3, 0), "; 2 rounds added texts near the model's mistakes,\nlabelled by T."),
        ((0,), "; no texts were added: time was up."),
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
    assert f"labelled by T together with {said}" in model_card(Path("run"), made)
    page = Report("r", "")
    module._weights(page, made)
    assert f"The teacher and {said} together" in page.text()


def test_without_a_last_training_only_texts_of_earlier_rounds_count(metrics):
    grown = metrics(9, 3, 0) | {"labels_used": {"result": 100}}
    assert [module._learned_from(grown | {"best_round": number}) for number in (1, 2, 3)] == [80, 89, 92]
    assert module._learned_from(grown | {"last_training": {"texts": 130, "epochs": 3}}) == 130
    assert module._learned_from(grown | {"result": "head"}) == 100, "a linear head learns the labelled texts alone"
    assert ", which the result has not learned." in model_card(Path("run"), grown | {"best_round": 1})


def test_a_linear_head_that_is_the_result_is_named(metrics):
    head = metrics(9, 0) | {"result": "head"}
    head["linear_head"] = head["linear_head"] | {"described": "logistic regression"}
    assert module._lead(head) == "A linear head on the frozen encoder: logistic regression."
    card = model_card(Path("run"), head)
    assert "`tiny`, frozen, with a linear head that was not beaten by Agora" in card
    assert "which the result has not learned" in card
    assert "\nLinear head: logistic regression. Settings" in card


def test_the_lead_says_whether_texts_were_learned(metrics):
    assert module._lead(metrics(9)).endswith("joined the training data.")
    assert module._lead(metrics(9) | {"best_round": 1}).endswith("The result is plain fine-tuning, without them.")
    assert module._lead(metrics(0)) == "Plain fine-tuning, as no texts were added."
    refused = metrics(0) | {"teacher": {"taught": False}}
    assert module._lead(refused) == "One round of plain fine-tuning: no teacher was worth learning from."


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize(("result", "named"), [("head", "the linear head"), ("fine-tuned", "plain fine-tuning")])
def test_the_reason_for_learning_nothing_is_that_of_the_run(metrics, weak, result, named):
    teacher = {"name": "T", "taught": False, "weak": weak, **metrics()["plain"]}
    made = metrics(0) | {"teacher": teacher, "nothing_added": "its labels are poor", "result": result}
    made["linear_head"] = made["linear_head"] | {"described": ""}
    said = module._of_poor_teacher(made)
    assert f"on the development texts that it answers, its labels are poor. The result is {named}." in said
    assert ("two thirds" in said) == weak
    assert "no texts were added because of the teacher, T:\nits labels are poor." in model_card(Path("run"), made)


@pytest.mark.parametrize(("epochs", "said"), [(1, "in 1 pass,"), (3, "in 3 passes,"), (0.4, "in 0.4 passes,")])
def test_passes_of_the_last_training(metrics, epochs, said):
    used = {"selection": 80, "result": 100, "teacher": None, "plain": 80}
    last = {"texts": 130, "epochs": epochs}
    assert said in module._of_labels(metrics(9) | {"labels_used": used, "last_training": last})
