"""Last trainings from one start, the mean of their weights, and when made labels are learned from."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from bort.agora import averaging, last_trainings
from bort.agora.averaging import averaged, beside_plain
from bort.agora.journal import RunClock
from bort.agora.last_labels import weights_of_labels
from bort.agora.last_trainings import mean_prediction, plain_training
from bort.agora.model_choice import clearly_improves, preferring_grown
from bort.agora.pooled_labels import Weights
from bort.agora.rounds import AgoraResult, Point, Round, Trial
from bort.agora.run import finetune
from bort.agora.session import Session
from bort.agora.trial import TextLearner, TrainedWeights
from bort.data.tables.examples import Example
from bort.predict.predictor import Predictor
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

CLASSES = Classification(("a", "b"), "accuracy")
VALUES = Regression((), "pearson")


def _score_models(monkeypatch, score):
    for module in (averaging, last_trainings):
        monkeypatch.setattr(module, "known_score", score)


@pytest.fixture
def settings(world, tmp_path):
    return world.finetuning(
        tmp_path, method="plain", learning_rates=[1e-3], max_epochs=2, keep_better=False, averaged=3
    )


@pytest.fixture
def watched(monkeypatch):
    """The models that were averaged, and their mean."""
    seen = []

    def watching(learner, models, known):
        mean = averaged(learner, models, known)
        seen.append(([load(model.read()) for model in models], load(mean.read())))
        return mean

    monkeypatch.setattr("bort.agora.plain_run.averaged", watching)
    return seen


def test_the_result_is_the_mean_of_trainings_from_one_start(settings, watched, weights):
    finetune(settings)
    [(models, _)] = watched
    assert len(models) == 3
    kept = weights(settings.out)
    heads = [model["classifier.weight"] for model in models]
    assert (heads[0] - heads[1]).abs().max() > 1e-4, "the orders differ"
    starts = torch.corrcoef(torch.stack([head.flatten() for head in heads]))
    assert starts.min() > 0.8, "the start does not"
    for name, values in kept.items():
        torch.testing.assert_close(values, sum(model[name] for model in models) / 3, atol=1e-6, rtol=0)
    assert Predictor(settings.out).predict("The cat walked.").label


@pytest.mark.parametrize(("sure_of", "softened"), [("nothing", True), ("all", False)])
def test_half_of_each_label_is_what_a_head_says_that_knows_how_far_to_be_certain(
    settings, monkeypatch, sure_of, softened
):
    seen = []

    def watching(session, best):
        truth = session.head.truth
        answers = 9 * np.eye(2)[truth] if sure_of == "all" else np.zeros((len(truth), 2))
        training = plain_training(session, replace(best, answers=answers.tolist()))
        seen.append((session, training.points))
        return training

    monkeypatch.setattr("bort.agora.last_trainings.plain_training", watching)
    finetune(settings)
    finetune(replace(settings, labels="hard", out=f"{settings.out}-hard"))
    (session, found), (_, hard) = seen
    examples = [*session.data.train, *session.data.dev]
    assert [point.x for point in found] == examples
    truth = session.task.targets(examples)
    assert [point.y for point in hard] == truth.tolist()
    if softened:
        own = np.exp(session.head.whole.out_of_fold)
        np.testing.assert_allclose([point.y for point in found], (np.eye(2)[truth] + own) / 2, atol=1e-5)
    else:
        assert [point.y for point in found] == truth.tolist()


def test_one_training_is_enough_where_asked(settings, watched):
    finetune(replace(settings, averaged=1))
    assert [len(models) for models, _ in watched] == [1]


def test_a_mean_that_has_lost_what_each_knows_is_not_the_result(settings, watched, monkeypatch, capsys):
    scores = iter([0.9, 0.95, 0.9, 0.9, 0.95, 0.9, 0.5])  # the three once more, then their average
    _score_models(monkeypatch, lambda *_: next(scores))
    finetune(settings)
    [(models, result)] = watched
    assert result["classifier.weight"].equal(models[0]["classifier.weight"])
    assert "has lost what each has learned" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["plain", "agora"])
def test_a_training_that_failed_to_learn_does_not_count(settings, monkeypatch, capsys, method):
    """At a high learning rate, one order of the data may end at a model that always says the same."""
    scores, models = itertools.chain([0.9, 0.4, 0.85], itertools.repeat(0.9)), []
    _score_models(monkeypatch, lambda *_: next(scores))

    def watching(*given):
        models.append(len(given[1]))
        return (averaged if method == "plain" else mean_prediction)(*given)

    watched = "plain_run.averaged" if method == "plain" else "growing_run.mean_prediction"
    monkeypatch.setattr(f"bort.agora.{watched}", watching)
    monkeypatch.setattr("bort.agora.growing_run.weights_of_labels", lambda *_: Weights(0.5, 0.5))
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, *_: replace(result, best=result.rounds[1].winner)
    )
    settings = replace(settings, method=method, transforms=["swap"], min_cosine=-1.0, max_cosine=2.0)
    for module in ("softened_labels", "growing_run", "last_labels"):
        monkeypatch.setattr(f"bort.agora.{module}.opinions_help", lambda *_: False)
    finetune(settings, teacher=_answers if method == "agora" else None)
    assert models == [2]
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("1 of 3 models failed to learn the labels, and will not be used") == 1


def test_a_training_on_new_texts_that_failed_to_learn_is_repeated_in_another_order(settings, monkeypatch, capsys):
    refit, places = TextLearner.refit, []

    def refitting(self, theta, train, slot, **named):
        places.append(slot.place)
        return refit(self, theta, train, slot, **named)

    monkeypatch.setattr(TextLearner, "refit", refitting)
    monkeypatch.setattr("bort.agora.growing_run.weights_of_labels", lambda *_: Weights(1.0, 0.0))
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, *_: replace(result, best=result.rounds[1].winner)
    )
    scores = iter([-1.0, 0.9])
    _score_models(monkeypatch, lambda *_: next(scores))
    settings = replace(settings, method="agora", transforms=["swap"], min_cosine=-1.0, max_cosine=2.0)
    metrics = finetune(settings, teacher=_answers)
    assert places == [3, 4]
    assert metrics["last_training"]["texts"] > 60
    assert "repeated in another order" in " ".join(capsys.readouterr().err.split())


def test_no_training_begins_when_time_is_up(settings, watched, monkeypatch):
    refit = TextLearner.refit

    def refitting(self, *arguments, **named):
        monkeypatch.setattr(RunClock, "is_up", lambda self: True)
        return refit(self, *arguments, **named)

    monkeypatch.setattr(TextLearner, "refit", refitting)
    finetune(settings)
    assert [len(models) for models, _ in watched] == [1]


@pytest.fixture
def growing(settings, monkeypatch):
    """A run whose last training learns new texts, and whose plain models label these."""
    monkeypatch.setattr("bort.agora.growing_run.weights_of_labels", lambda *_: Weights(0.5, 0.5))
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, *_: replace(result, best=result.rounds[1].winner)
    )
    return replace(settings, method="agora", transforms=["swap"], min_cosine=-1.0, max_cosine=2.0)


def test_a_training_on_new_texts_does_not_begin_when_time_is_up(growing, monkeypatch, capsys):
    refit, places = TextLearner.refit, []

    def refitting(self, theta, train, slot, **named):
        places.append(slot.place)
        monkeypatch.setattr(RunClock, "is_up", lambda self: len(places) == 3)
        return refit(self, theta, train, slot, **named)

    monkeypatch.setattr(TextLearner, "refit", refitting)
    metrics = finetune(growing, teacher=_answers)
    assert places == [0, 1, 2], "those of the labels alone"
    assert metrics["stopped_early"]
    assert metrics["last_training"] is None
    assert metrics["labels_used"]["result"] == metrics["labels_used"]["selection"]
    assert "gave no model, so the result is the best one before it: time was up" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_training_on_new_texts_that_had_begun_is_finished_when_time_is_up(growing, monkeypatch, failed_before):
    refit, places = TextLearner.refit, []

    def scored():
        scores = itertools.chain([0.9] * 3, [-1.0] * failed_before, itertools.repeat(0.9))
        return lambda *_: next(scores)

    def interrupted(self, theta, train, slot, **named):
        if slot.place == 3 + failed_before:
            raise KeyboardInterrupt
        return refit(self, theta, train, slot, **named)

    def refitting(self, theta, train, slot, **named):
        places.append(slot.place)
        return refit(self, theta, train, slot, **named)

    _score_models(monkeypatch, scored())
    monkeypatch.setattr(TextLearner, "refit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune(growing, teacher=_answers)
    _score_models(monkeypatch, scored())
    monkeypatch.setattr(TextLearner, "refit", refitting)
    monkeypatch.setattr(RunClock, "is_up", lambda self: True)
    metrics = finetune(replace(growing, resume=True), teacher=_answers)
    assert places == [3 + failed_before]
    assert not metrics["stopped_early"]
    assert metrics["last_training"]["texts"] > 60


def test_a_teacher_is_not_asked_for_a_training_that_has_no_time(growing, monkeypatch):
    fit, asked = Session.fit, []

    def fitting(self, source=None):
        result = fit(self, source)
        monkeypatch.setattr(RunClock, "is_up", lambda self: True)
        return result

    monkeypatch.setattr(Session, "fit", fitting)
    monkeypatch.setattr("bort.agora.growing_run.last_training_data", lambda *_: asked.append(True))
    assert finetune(growing, teacher=_answers)["stopped_early"]
    assert not asked


def test_where_all_last_trainings_fail_the_best_trial_is_the_result(settings, fail_last_trainings, capsys):
    fail_last_trainings(lambda number: True)
    metrics = finetune(settings)
    assert metrics["labels_used"]["result"] == metrics["labels_used"]["selection"]
    assert not metrics["stopped_early"]
    told = "the result is the best one before it: MemoryError: too small"
    assert told in " ".join(capsys.readouterr().err.split())
    assert Predictor(settings.out).predict("The cat walked.").label


def test_where_a_training_on_new_texts_fails_the_best_trial_is_the_result(growing, fail_last_trainings, capsys):
    fail_last_trainings(lambda number: number >= 3)
    metrics = finetune(growing, teacher=_answers)
    assert metrics["last_training"] is None
    assert "before it: MemoryError: too small" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("method", ["plain", "agora"])
def test_no_last_training_begins_when_time_is_up_after_the_last_trial(settings, monkeypatch, method):
    fit = TextLearner.fit

    def fitting(self, theta, train, slot):
        monkeypatch.setattr(RunClock, "is_up", lambda self: True)
        return fit(self, theta, train, slot)

    monkeypatch.setattr(TextLearner, "fit", fitting)
    monkeypatch.setattr(TextLearner, "refit", None)
    metrics = finetune(replace(settings, method=method, rounds=1, transforms=["swap"]))
    assert metrics["stopped_early"]
    assert metrics["labels_used"]["result"] == metrics["labels_used"]["selection"]


def test_a_last_training_that_had_begun_is_finished_when_time_is_up(settings, watched, monkeypatch):
    settings = replace(settings, averaged=1)
    with monkeypatch.context() as patch:
        patch.setattr(TextLearner, "refit", lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings)
    monkeypatch.setattr(RunClock, "is_up", lambda self: True)
    assert not finetune(replace(settings, resume=True))["stopped_early"]
    assert [len(models) for models, _ in watched] == [1]


def result(plain, grown, task=CLASSES):
    """Two rounds with such answers, the first of which scores best; the task; and the development data."""
    if task is CLASSES:
        plain, grown = ([[float(1 - a), float(a)] for a in answers] for answers in (plain, grown))
    trials = [Trial({"lr": n}, score, answers, None) for n, (score, answers) in enumerate(((0.9, plain), (0.8, grown)))]
    rounds = [Round(number, [trial], 0, 9, []) for number, trial in enumerate(trials, start=1)]
    return AgoraResult(trials[0], rounds, [], False, True), task, [Point("x", 1)] * len(plain)


def test_made_labels_are_learned_from_unless_they_harm():
    slightly, task, dev = result([1] * 80 + [0] * 20, [0] * 2 + [1] * 78 + [0] * 20)
    assert preferring_grown(slightly, task, dev).best_round == 1, "2 behind, and nowhere ahead"
    noisy, task, dev = result([1] * 80 + [0] * 20, [0] * 8 + [1] * 72 + [1] * 7 + [0] * 13)
    assert preferring_grown(noisy, task, dev).best_round == 2, "1 behind, of 15 that differ"
    harmful, task, dev = result([1] * 80 + [0] * 20, [1] * 60 + [0] * 40)
    assert preferring_grown(harmful, task, dev).best_round == 1


def test_of_values_the_distance_counts():
    near, task, dev = result([[1.1]] * 9 + [[1.2]], [[1.2]] + [[1.1]] * 9, VALUES)
    assert preferring_grown(near, task, dev).best_round == 2
    far, task, dev = result([[1.1]] * 10, [[1.1 + n] for n in range(10)], VALUES)
    assert preferring_grown(far, task, dev).best_round == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_who_is_no_worse_is_preferred(pairs):
    plain, grown = ([int(pair[n]) for pair in pairs] for n in (0, 1))
    found, task, dev = result(plain, grown)
    best = preferring_grown(found, task, dev).best_round
    if sum(grown) >= sum(plain):
        assert best == 2
    elif not any(grown) and all(plain):
        assert best == 1, "each answer is worse"


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 2), ("f1", 1), ("matthews", 1)])
def test_the_metric_of_the_run_chooses(metric, best):
    """New texts make two more answers right, and the rare class is hardly found any more."""
    truth = np.array([0] * 180 + [1] * 20)
    plain, grown = truth.copy(), truth.copy()
    plain[:20], grown[182:] = 1, 0
    task = Classification(("a", "b"), metric)
    found, _, _ = result(plain.tolist(), grown.tolist())
    dev = [Point("x", int(label)) for label in truth]
    assert preferring_grown(found, task, dev).best_round == best


def test_by_another_metric_a_difference_by_chance_decides_nothing():
    truth = np.array([0, 1] * 50)
    plain, grown = truth.copy(), truth.copy()
    plain[:8], grown[20:29] = 1 - plain[:8], 1 - grown[20:29]
    found, _, _ = result(plain.tolist(), grown.tolist())
    dev = [Point("x", int(label)) for label in truth]
    assert preferring_grown(found, Classification(("a", "b"), "f1"), dev).best_round == 2, "1 behind, of 17 that differ"


def test_labels_are_compared_by_another_metric_at_their_own_thresholds():
    """With new texts all probabilities are lower, but as well sorted."""
    task = MultiLabel(("a", "b"), "f1_macro")
    truth = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 10)
    plain, grown = ((6.0 * truth - down).tolist() for down in (3, 5))
    found, _, _ = result(plain, grown, task)
    dev = [Point("x", tuple(row)) for row in truth.tolist()]
    assert preferring_grown(found, task, dev).best_round == 2


@pytest.mark.parametrize(("grown", "again"), [(False, [1, 2]), (True, [0, 1, 2])])
def test_a_finished_training_is_repeated_if_the_data_have_grown(settings, monkeypatch, grown, again):
    """As where an LLM is asked about more texts, for `--resume` with a larger budget."""
    refit, softened, places = TextLearner.refit, last_trainings.softened, []

    def refitting(self, theta, train, slot, **named):
        places.append(slot.place)
        if places == [0, 1]:
            raise KeyboardInterrupt
        return refit(self, theta, train, slot, **named)

    def fewer(session, best):
        return softened(session, best)[:-1]

    monkeypatch.setattr(TextLearner, "refit", refitting)
    with monkeypatch.context() as patch:
        patch.setattr(last_trainings, "softened", fewer if grown else softened)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings)
    finetune(replace(settings, resume=True))
    assert places[2:] == again


def test_a_last_training_that_fails_is_journaled_and_told(settings, watched, fail_last_trainings, capsys):
    fail_last_trainings(lambda number: number == 1)
    finetune(settings)
    assert [len(models) for models, _ in watched] == [2]
    told = " ".join(capsys.readouterr().err.split())
    assert "1 of the 3 trainings that follow the trials failed (see journal.jsonl): MemoryError: too small" in told
    events = map(json.loads, (Path(settings.out) / "journal.jsonl").read_text("utf-8").splitlines())
    [failed] = [event for event in events if event["event"] == "failed"]
    assert (failed["round"], failed["place"], failed["theta"]["learning_rate"]) == (0, 1, 1e-3)


def test_models_are_scored_on_a_sample_of_many_texts():
    """As of a file that is sorted by class, whose first texts are all of one class."""
    truth = np.repeat([0, 1], 2000)
    rng, dead = np.random.default_rng(0), np.tile([1.0, 0.0], (4000, 1))
    good, better = (np.eye(2)[np.where(rng.random(4000) < right, truth, 1 - truth)] for right in (0.86, 0.9))

    class Learner:
        fitter = SimpleNamespace(task=CLASSES, averaged=lambda weights: b"0")

        def score(self, answers, truth):
            return TextLearner.score(self, answers, truth)

        def predict(self, model, places):
            return (dead, good, better)[int(model.read())][places]

    models = [TrainedWeights(str(number).encode(), about={"seconds": 1.0}) for number in range(3)]
    points = [Point(place, int(label)) for place, label in enumerate(truth)]
    session = SimpleNamespace(points=lambda dev: points, data=SimpleNamespace(dev=None), learner=Learner())
    best = SimpleNamespace(answers=good.tolist())
    assert last_trainings._learned(session, best, models) == models[1:]
    assert averaged(Learner(), models[1:], points) is models[1], "their average always says the same"


@pytest.mark.parametrize("mixed", [True, False])
def test_models_of_mixed_labels_are_not_weighted_as_overconfident_ones(monkeypatch, mixed):
    """The plain trial has learned bare labels; the models that it stands for only if no opinions are mixed in."""
    monkeypatch.setattr("bort.agora.last_labels.opinions_help", lambda *_: mixed)
    rng, dev = np.random.default_rng(0), [Example("x", label="ab"[place % 2]) for place in range(200)]
    truth = CLASSES.targets(dev)
    teacher, student = (rng.normal(size=(200, 2)) + 2 * np.eye(2)[truth] for _ in range(2))
    session = SimpleNamespace(
        task=CLASSES, data=SimpleNamespace(dev=dev), arguments=SimpleNamespace(labelled_by="both")
    )

    def weights(overconfidence):
        trial = SimpleNamespace(answers=CLASSES.says(overconfidence * student).tolist())
        return weights_of_labels(session, CLASSES.says(teacher), trial)

    sure, surer = weights(1.0), weights(2.0)
    assert surer.teacher == pytest.approx(sure.teacher, rel=0.05)
    assert (surer.student == pytest.approx(sure.student, rel=0.05)) == mixed
    assert mixed or surer.student < 0.6 * sure.student


@pytest.mark.parametrize(
    ("task", "found", "kept"),
    [
        (CLASSES, Weights(0.9, 0.0002), Weights(0.9, 0.0)),
        (CLASSES, Weights(0.9, 0.01), Weights(0.9, 0.01)),
        (VALUES, Weights(0.9998, 0.0002), Weights(1.0, 0.0)),
    ],
)
def test_a_next_to_nothing_weight_is_none_in_the_last_training(monkeypatch, task, found, kept):
    monkeypatch.setattr("bort.agora.last_labels.opinions_help", lambda *_: False)
    monkeypatch.setattr("bort.agora.last_labels.weigh", lambda *_: found)
    session = SimpleNamespace(
        task=task, data=SimpleNamespace(dev=[]), arguments=SimpleNamespace(labelled_by="both")
    )  # fmt: skip
    assert weights_of_labels(session, np.zeros((0, 2)), SimpleNamespace(answers=[])) == kept


def _answers(texts):
    """A teacher that knows what the task is about, and is not certain."""
    return [{"cat": 0.8, "other": 0.2} if "cat" in text else {"cat": 0.2, "other": 0.8} for text in texts]


@pytest.mark.parametrize(
    ("gain", "count", "clear"), [(1.0, 200, True), (1.0, 6, False), (0.0, 200, False), (-1.0, 200, False)]
)
@pytest.mark.parametrize("certainty", [1.0, 5.0])
def test_an_improvement_is_clear_beyond_chance_however_certain_the_plain_model_is(gain, count, clear, certainty):
    rng, dev = np.random.default_rng(0), [Example("x", label="ab"[place % 2]) for place in range(count)]
    right = np.eye(2)[CLASSES.targets(dev)]
    noise = rng.normal(size=(2, count, 2))
    plain, grown = (
        SimpleNamespace(answers=(scale * (more * right + each)).tolist())
        for scale, more, each in ((certainty, 1.0, noise[0]), (1.0, 1.0 + gain, noise[1]))
    )
    assert clearly_improves(CLASSES, plain, grown, dev) == clear


@pytest.mark.parametrize(("mixed", "better"), [(True, False), (True, True), (False, False)])
def test_the_last_model_is_averaged_with_plain_ones_of_mixed_labels_unless_clearly_better(
    settings, weights, monkeypatch, mixed, better
):
    seen = []

    def watching(learner, grown, plain, known):
        found = beside_plain(learner, grown, plain, known)
        seen.append([load(model.read()) for model in (grown, *plain)])
        return found

    monkeypatch.setattr("bort.agora.growing_run.beside_plain", watching)
    for module in ("softened_labels", "growing_run", "last_labels"):
        monkeypatch.setattr(f"bort.agora.{module}.opinions_help", lambda *_: mixed)
    monkeypatch.setattr("bort.agora.growing_run.weights_of_labels", lambda *_: Weights(0.5, 0.5))
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, *_: replace(result, best=result.rounds[1].winner)
    )
    monkeypatch.setattr("bort.agora.growing_run.clearly_improves", lambda *_: better)
    finetune(replace(settings, method="agora", transforms=["swap"], min_cosine=-1.0, max_cosine=2.0), teacher=_answers)
    if better or not mixed:
        assert not seen
        return
    [(grown, *plain)] = seen
    assert len(plain) == 3
    kept = weights(settings.out)
    for name, values in kept.items():
        mean = sum(model[name] for model in plain) / 3
        torch.testing.assert_close(values, (2 * grown[name] + mean) / 3, atol=1e-5, rtol=0)
    assert (kept["classifier.weight"] - grown["classifier.weight"]).abs().max() > 1e-5
