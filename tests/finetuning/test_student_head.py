"""The linear head that every run fits first, on a tiny student."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from bort import progress
from bort.data.tables.examples import read_examples
from bort.finetuning import linear_head
from bort.finetuning import student_head as module
from bort.finetuning.first_token import FIRST, MEAN
from bort.finetuning.linear_head import LinearHead, fit_linear_head
from bort.finetuning.splits import read_splits
from bort.finetuning.student_head import StudentHead, fit_student_head
from bort.predict.predictor import Predictor
from bort.tasks.multilabel import MultiLabel


@pytest.fixture
def data(world, tmp_path):
    return read_splits(world.finetuning(tmp_path, method="plain"))


@pytest.fixture
def fitter(world, tmp_path, data):
    return data.fitter(world.finetuning(tmp_path, method="plain"))


def test_every_label_is_used_and_answered_for(fitter, data):
    head = fit_student_head(fitter, data.train, data.dev)
    assert len(head.whole.out_of_fold) == len(data.train) + len(data.dev)
    assert len(head.alone.out_of_fold) == len(data.train)
    assert head.says.shape == head.dev_out_of_fold.shape == (len(data.dev), 2)
    assert head.whole.score > 0.5


def test_bars_show_what_may_take_long(fitter, data, monkeypatch):
    shown, begin = [], progress.Bar.__init__

    def noted(self, *given, **named):
        begin(self, *given, **named)
        shown.append(self)

    monkeypatch.setattr(progress.Bar, "__init__", noted)
    monkeypatch.setattr(linear_head, "_MOST_TO_CHOOSE_BY", 50)
    head = fit_student_head(fitter, data.train, data.dev)
    fitter.logits(head.classifier(), fitter.tokens(data.test))
    what = ["the frozen encoder reads texts", *["fitting a linear head"] * 4, "the fine-tuned model predicts"]
    assert [bar.what for bar in shown] == what
    assert [bar.total for bar in shown] == [60, 31, 31, 26, 26, len(data.test)]
    assert [bar.done for bar in shown] == [bar.total for bar in shown]


def test_features_are_those_of_the_examples_that_were_asked_about(fitter, data):
    head = fit_student_head(fitter, data.train, data.dev)
    for examples in (data.test[:2], data.test[2:4], data.test[4:6]):  # lists that are gone at once
        found = head.logits([*examples])
        np.testing.assert_allclose(found, head.logits([*examples, *data.dev])[:2], atol=1e-4)


@pytest.mark.parametrize("pooling", [FIRST, MEAN])
def test_the_folder_is_a_plain_classifier_that_answers_as_the_head(fitter, data, tmp_path, pooling, monkeypatch):
    monkeypatch.setattr(
        module, "_chosen", lambda fitter, x, y, groups: fit_linear_head({pooling: x[pooling]}, y, fitter.task)
    )
    head = fit_student_head(fitter, data.train, data.dev)
    assert head.whole.pooling == pooling
    # In this random encoder texts hardly differ, so the head's weights and with them the rounding are large.
    near = {"atol": 2e-3}
    fitter.save(head.classifier(), tmp_path / "folder")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder").eval()
    expected = head.logits(data.test)
    found = fitter.logits(plain, fitter.tokens(data.test))
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), **near)
    with Predictor(str(tmp_path / "folder")) as predictor:
        np.testing.assert_allclose(predictor.predict_proba([e.text for e in data.test]), np.exp(expected), **near)


def test_the_mean_is_taken_only_where_it_is_clearly_better(fitter, data):
    targets = fitter.task.targets(data.train)
    rng = np.random.default_rng(0)
    noise, good = rng.normal(size=(2, len(targets), 8))
    good[:, 0] += 3 * targets
    choose = lambda first, mean: module._chosen(fitter, {FIRST: first, MEAN: mean}, targets, None).pooling  # noqa: E731
    assert choose(noise, good) == MEAN
    assert choose(good, noise) == FIRST
    assert choose(good, good + 1e-3 * noise) == FIRST


def test_of_very_many_examples_a_sample_is_enough(fitter, data, monkeypatch):
    monkeypatch.setattr(linear_head, "MOST_FITTED", 20)
    head = fit_student_head(fitter, data.train, data.dev)
    assert len(head.alone.folds) == len(head.whole.folds) == head.labels_used == 20
    assert len(head.whole.out_of_fold) == 20 + len(data.dev)
    assert len(head.says) == len(head.dev_out_of_fold) == len(head.truth) == len(data.dev)


@pytest.mark.parametrize("sign", [1, -1])
def test_values(world, tmp_path, sign):
    rows = read_examples(world.train)
    file = tmp_path / "numbers.csv"
    file.write_text(
        "text,label\n" + "".join(f'"{e.text}",{sign * (910.5 if e.label == "cat" else 802.25)}\n' for e in rows)
    )
    arguments = world.finetuning(tmp_path, method="plain", train=str(file), dev=None, test=None)
    data = read_splits(arguments)
    fitter = data.fitter(arguments)
    head = fit_student_head(fitter, data.train, data.dev)
    fitter.save(head.classifier(), tmp_path / "folder")
    answers = [answer.label for answer in Predictor(str(tmp_path / "folder")).stream(data.dev)]
    np.testing.assert_allclose(answers, head.logits(data.dev)[:, 0], atol=0.05)
    assert 780 < sign * np.mean(answers) < 930


def test_the_setting_balances_the_heads(world, tmp_path, data, monkeypatch):
    seen, fit = [], module.fit_linear_head
    monkeypatch.setattr(
        module, "fit_linear_head", lambda *a, **named: seen.append(named["balance"]) or fit(*a, **named)
    )
    fit_student_head(data.fitter(world.finetuning(tmp_path, method="head", balance=True)), data.train, data.dev)
    assert {*seen} == {True}


def test_labels_of_both_sides_have_their_own_thresholds():
    """The fine-tuned models are always right, above thresholds far from one half."""
    task = MultiLabel(("a", "b"), "f1_micro")
    truth = np.array([[1, 0], [0, 1]] * 50, dtype=np.float32)
    right = 6.0 * truth - 3
    own = np.where(np.arange(100)[:, None] < 10, -right, right)
    whole = LinearHead(task, FIRST, 1.0, own, own, own, own, 0.0, 0.0)
    head = StudentHead(SimpleNamespace(task=task), whole, whole, own, truth, {}, held=True)
    assert not head.clearly_beats(right - 4)
    whole.out_of_fold[:] = right - 4
    assert head.clearly_beats(np.where(np.arange(100)[:, None] < 10, -right, right))
