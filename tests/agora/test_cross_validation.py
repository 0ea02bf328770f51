from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bort.agora import cross_validation, last_trainings
from bort.agora.journal import RunClock
from bort.agora.run import finetune
from bort.agora.trial import TextLearner
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.report import finetune_report
from bort.finetuning.student_head import StudentHead


@pytest.fixture
def arguments(world, tmp_path) -> FinetuneArguments:
    settings = {"method": "plain", "dev": None, "learning_rates": [1e-2], "max_epochs": 6}
    return world.finetuning(tmp_path, **settings)


def test_each_text_is_answered_by_a_model_that_has_not_learned_it(arguments, monkeypatch):
    asked: dict[int, list[tuple[set, set]]] = {}
    fit, says = TextLearner.refit, TextLearner.says
    learned: dict[int, set] = {}

    def refit(self, theta, train, slot, **more):
        model = fit(self, theta, train, slot, **more)
        learned[slot.place] = {point.x.text for point in train}
        return model

    def answer(self, model, examples):
        asked.setdefault(len(asked), []).append({example.text for example in examples})
        return says(self, model, examples)

    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    monkeypatch.setattr(TextLearner, "refit", refit)
    monkeypatch.setattr(TextLearner, "says", answer)
    metrics = finetune(replace(arguments, keep_better=True))
    folds = sorted(place for place in learned if place >= 1000)
    assert len(folds) == 5
    held_out = [texts for [texts] in asked.values() if len(texts) <= 20][-5:]
    everything = set().union(*held_out)
    assert sum(map(len, held_out)) == len(everything) == sum(metrics["rows"][part] for part in ("train", "dev"))
    for place, texts in zip(folds, held_out, strict=True):
        assert learned[place] == everything - texts


@pytest.mark.parametrize("better", [True, False])
def test_the_better_of_head_and_model_out_of_fold_is_the_result(arguments, monkeypatch, capsys, better, page_of_files):
    compared = []

    def beats(self, says):
        compared.append(np.asarray(says))
        return better

    monkeypatch.setattr(StudentHead, "clearly_beats", beats)
    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    metrics = finetune(arguments)
    assert metrics["result"] == ("head" if better else "fine-tuned")
    [says] = compared
    np.testing.assert_allclose(np.exp(says).sum(1), 1, atol=1e-5)
    assert metrics["labels_used"]["out_of_fold"] == len(says) == 40
    assert 0 < (metrics["fine_tuned"] if better else metrics)["out_of_fold"]["accuracy"] <= 1
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    assert page == page_of_files(finetune_report, arguments.out, "trial")
    assert ("did not beat it in cross-validation" in page) == better
    assert ("does not beat the linear head in cross-validation" in capsys.readouterr().err) == better


def test_where_development_data_are_given_they_judge(arguments, world, monkeypatch):
    monkeypatch.setattr(StudentHead, "clearly_beats", lambda *_: pytest.fail("they were not asked"))
    given = replace(arguments, dev=world.dev)
    alone = replace(arguments, keep_better=False, out=f"{arguments.out}-2")
    teacher = replace(arguments, refit=False, out=f"{arguments.out}-4")
    assert all("out_of_fold" not in finetune(settings)["labels_used"] for settings in (given, alone, teacher))
    monkeypatch.setattr(cross_validation, "_MOST", 30)
    assert "out_of_fold" not in finetune(replace(arguments, out=f"{arguments.out}-3"))["labels_used"]


def test_nothing_is_compared_where_a_training_failed_to_learn(arguments, monkeypatch, capsys):
    """Such a model answers a fifth of the texts, and a head would win against it."""
    scores = itertools.chain([0.9, 0.9, 0.3, 0.9, 0.9], itertools.repeat(0.9))
    monkeypatch.setattr(last_trainings, "known_score", lambda *_: next(scores))
    monkeypatch.setattr(StudentHead, "clearly_beats", lambda *_: pytest.fail("they were compared"))
    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    metrics = finetune(arguments)
    assert metrics["result"] == "fine-tuned"
    assert "out_of_fold" not in metrics["labels_used"]
    assert "nothing is compared in cross-validation" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("low", [0.0, 0.3, 0.6])
def test_models_that_learned_their_labels_are_told_from_those_that_did_not(low):
    session = SimpleNamespace(learner=None, data=SimpleNamespace(dev=[None] * 25))
    best, known = SimpleNamespace(score=0.9), [[None] * 100] * 5

    def learned(scores):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(last_trainings, "known_score", lambda learner, model, points: model)
            return last_trainings.all_learned(session, best, scores, known)

    assert learned([0.9] * 5)
    assert learned([0.9, 0.75, 0.8, 0.85, 0.75]), "by chance"
    assert not learned([0.9] * 4 + [low])
    assert learned([0.65] * 5), "of 25 development texts, chance decides about 0.2"
    assert not learned([0.5] * 5), "as the trial did"


def test_nothing_is_compared_where_trainings_fail(arguments, fail_last_trainings, monkeypatch):
    fail_last_trainings(lambda number: number >= 1000)
    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    metrics = finetune(arguments)
    assert (metrics["result"], metrics["labels_used"]["result"]) == ("fine-tuned", 40)
    assert "out_of_fold" not in metrics["labels_used"]


def test_no_last_training_begins_when_these_took_the_time(arguments, monkeypatch):
    refit, places = TextLearner.refit, []

    def refitting(self, theta, train, slot, **more):
        places.append(slot.place)
        monkeypatch.setattr(RunClock, "is_up", lambda self: True)
        return refit(self, theta, train, slot, **more)

    monkeypatch.setattr(TextLearner, "refit", refitting)
    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    metrics = finetune(arguments)
    assert places == [1000]
    assert metrics["stopped_early"]
    assert metrics["labels_used"]["result"] == metrics["rows"]["train"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["rounds/final-1002.safetensors", "rounds/00-1001/checkpoint-*/complete.json"])
def test_a_killed_run_comes_to_the_same_result(arguments, world, tmp_path, killed, moment, assert_same_weights):
    arguments = replace(arguments, train=world.pairs, test=None)  # which a linear head does not get right
    expected = finetune(arguments)
    out = tmp_path / "killed"
    line = ["finetune", "--method", "plain", "--train", world.pairs, "--model", world.encoder, "--out", str(out)]
    line += ["--learning_rates", "1e-2", "--batch_sizes", "8", "--max_epochs", "6", "--max_length", "32"]
    line += ["--precision", "fp32", "--averaged", "1", "--checkpoint_minutes", "0"]
    killed(line, out, moment)
    assert not (out / "metrics.json").exists()
    again = finetune(replace(arguments, out=str(out), resume=True))
    kept = [run.get("fine_tuned", run)["out_of_fold"] for run in (expected, again)]
    assert kept[0] == kept[1]
    assert_same_weights(arguments.out, out)
    events = [json.loads(text) for text in (out / "journal.jsonl").read_text("utf-8").splitlines()]
    numbers = [event["number"] for event in events if event["event"] == "refit"]
    assert len(numbers) == len({*numbers}) == 5 + (again["result"] == "fine-tuned")


@pytest.mark.parametrize("better", [True, False])
def test_so_is_it_where_nothing_has_grown(arguments, monkeypatch, better):
    """Agora whose only teacher is its own head makes texts, and keeps none where the first round comes out best."""
    monkeypatch.setattr(StudentHead, "clearly_beats", lambda *_: better)
    monkeypatch.setattr(StudentHead, "beats", lambda *_: False)
    metrics = finetune(replace(arguments, method="agora", rounds=1))
    assert (metrics["result"], metrics["best_round"]) == ("head" if better else "fine-tuned", 1)
    assert metrics["labels_used"]["out_of_fold"] == metrics["labels_used"]["result"] == 40
