"""Agora with texts: from labelled files to a run's folder."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from bort.agora import run as module
from bort.agora.nearby import identity
from bort.agora.run import finetune
from bort.agora.trial import Fitting
from bort.data.tables.examples import read_examples
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.predict.predictor import Predictor
from bort.workers import InProcess


@pytest.fixture
def arguments(world, tmp_path) -> FinetuneArguments:
    return world.finetuning(
        tmp_path,
        transforms=["swap", "typo", "delete"],
        points_per_mistake=3,
        min_cosine=-1.0,
        max_cosine=2.0,
        learning_rates=[1e-3, 1e-2],
        max_epochs=2,
    )


def answers(texts):
    """A teacher that knows what the task is about."""
    return ["cat" if "cat" in text else "other" for text in texts]


def test_leaves_a_whole_run(arguments, finetuned_files):
    metrics = finetune(arguments, teacher=answers)
    run = Path(arguments.out)
    assert {file.name for file in run.iterdir()} == finetuned_files | {"README.md"}
    assert metrics == json.loads((run / "metrics.json").read_text("utf-8"))
    assert metrics["teacher"]["test"]["accuracy"] == 1.0
    rounds = metrics["rounds"]
    assert 1 <= len(rounds) <= 2
    for done, after in itertools.pairwise(rounds):
        assert after["train_size"] == done["train_size"] + done["kept"]
        assert done["made"] == done["kept"] + sum(done["dropped"].values()) == 3 * done["mistakes"]
        assert sum(done["labels"].values()) == done["kept"]
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert model.config.id2label == {0: "cat", 1: "other"}
    assert Predictor(arguments.out).predict(["The grey cat sold apples."])[0].label in ("cat", "other")
    card = (run / "README.md").read_text("utf-8")
    assert f"| by Agora | {metrics['test']['accuracy']:.3f} |" in card
    page = (run / "report.html").read_text("utf-8")
    for said in (
        "From mistakes to new texts: round 1",
        "plain fine-tuning",
        "New texts that were dropped",
        "Made with",
    ):
        assert (said in page) or (said == "New texts that were dropped" and not any(r["dropped"] for r in rounds)), said


def test_the_new_texts_are_new_and_labelled_by_the_teacher(arguments, world, monkeypatch):
    kept = {}
    monkeypatch.setattr(module.shutil, "rmtree", lambda folder, **_: kept.update(folder=Path(folder)))
    finetune(replace(arguments, labels="hard"), teacher=answers)
    known = {identity(e) for file in (world.train, world.dev, world.test) for e in read_examples(file)}
    grown = json.loads((Path(arguments.out) / "rounds" / "grown-01.json").read_text("utf-8"))
    assert grown["points"]
    for point in grown["points"]:
        assert (" ".join(point["text"].split()).casefold(), "") not in known
        assert point["label"] == (0 if "cat" in point["text"] else 1)


def test_a_part_is_held_out_where_no_test_is_given(arguments):
    metrics = finetune(replace(arguments, test=None, dev=None), teacher=answers)
    assert metrics["held_out"]
    rows = metrics["rows"]
    assert rows["test"] > 0
    assert sum(rows.values()) == len(read_examples(arguments.train))
    assert "held out of the training data" in (Path(arguments.out) / "README.md").read_text("utf-8")


@pytest.mark.parametrize("settings", [{}, {"labels": "hard"}, {"temperature": 3.0}, {"replay": 1}])
def test_the_student_is_its_own_teacher_where_none_is_given(arguments, settings):
    metrics = finetune(replace(arguments, **settings))
    assert metrics["teacher"]["name"].endswith("with a linear head")
    assert any(done["replayed"] for done in metrics["rounds"]) == ("replay" in settings)


def test_unlabelled_texts_near_mistakes_are_trained_on(arguments, tmp_path, sentences):
    pool = tmp_path / "pool.txt"
    pool.write_text("\n".join(f"{text} Again." for text in sentences[:60]), "utf-8")
    settings = replace(arguments, points_per_mistake=0, unlabelled=str(pool), unlabelled_per_mistake=2)
    metrics = finetune(settings, teacher=answers)
    first = metrics["rounds"][0]
    assert first["kept"] == min(2 * first["mistakes"], 60)


def test_pairs(arguments, world):
    metrics = finetune(replace(arguments, train=world.pairs, dev=None, test=None))
    assert metrics["rows"]["test"] > 0


def test_a_regression_is_cast_to_near_enough(arguments, world):
    metrics = finetune(replace(arguments, train=world.regression, dev=None, test=None))
    assert metrics["task"] == "regression"
    assert metrics["rounds"][0]["made"] == 3 * metrics["rounds"][0]["mistakes"]
    assert {"pearson", "spearman", "rmse"} <= metrics["test"].keys()


def test_a_command_may_teach(arguments):
    code = "import sys, json\nfor line in sys.stdin: print('cat' if 'cat' in json.loads(line)['text'] else 'other')"
    metrics = finetune(replace(arguments, teacher_command=shlex.join([sys.executable, "-c", code])))
    assert metrics["teacher"]["test"]["accuracy"] == 1.0


def test_a_classifier_may_teach(arguments, tmp_path):
    finetune(arguments, teacher=answers)
    metrics = finetune(replace(arguments, teacher=arguments.out, out=str(tmp_path / "taught")))
    assert metrics["teacher"]["name"] == arguments.out


def test_an_encoder_is_fine_tuned_to_teach(arguments, world):
    metrics = finetune(replace(arguments, teacher=world.encoder, teacher_fit="full", teacher_learning_rates=[1e-2]))
    assert (Path(arguments.out) / "teacher" / "metrics.json").is_file()
    assert metrics["teacher"]["dev"]["accuracy"] > 0


def test_the_better_of_two_teachers_is_taken(arguments, world, capsys):
    metrics = finetune(replace(arguments, teacher=world.encoder, teacher_fit="best", teacher_learning_rates=[1e-2]))
    said = " ".join(capsys.readouterr().err.split())
    head, full = re.search(r"a linear head ([.\d]+), fine-tuned ([.\d]+)", said).groups()
    assert metrics["teacher"]["dev"]["accuracy"] == pytest.approx(max(float(head), float(full)), abs=1e-3)
    assert metrics["teacher"]["name"].endswith("with a linear head") == (float(head) >= float(full))


def test_teacher_and_student_label_together(arguments):
    metrics = finetune(arguments, teacher=answers)
    assert metrics["label_weights"]["teacher"] > 5 * metrics["label_weights"]["student"]  # it is always right


def test_a_teacher_who_knows_nothing_is_not_heard(arguments, tmp_path):
    settings = replace(arguments, labels="soft", learning_rates=[1e-2], max_epochs=8, weak_teacher="use")
    metrics = finetune(settings, teacher=lambda texts: [{"cat": 0.5, "other": 0.5}] * len(texts))
    assert metrics["label_weights"]["student"] > 0
    assert "Who labelled the new texts" in (Path(settings.out) / "report.html").read_text("utf-8")
    assert "together with the best model" in (Path(settings.out) / "README.md").read_text("utf-8")
    alone = replace(settings, labelled_by="teacher", out=str(tmp_path / "alone"))
    metrics = finetune(alone, teacher=lambda texts: [{"cat": 0.5, "other": 0.5}] * len(texts))
    assert metrics["label_weights"] == {"teacher": 1.0, "student": 0.0}
    assert "Who labelled" not in (Path(alone.out) / "report.html").read_text("utf-8")


def test_a_weak_teacher_is_warned_of_and_teaches_nothing(arguments, capsys):
    metrics = finetune(arguments, teacher=lambda texts: ["cat"] * len(texts))
    said = " ".join(capsys.readouterr().err.split())
    assert "less than two thirds" in said
    assert "nothing is learned from it" in said
    assert "nothing was learned from it" in (Path(arguments.out) / "report.html").read_text("utf-8")
    assert "none was added" in (Path(arguments.out) / "README.md").read_text("utf-8")
    assert len(metrics["rounds"]) == 1
    assert metrics["test"] == metrics["plain"]["test"]
    assert metrics["teacher"]["weak"]
    assert not metrics["teacher"]["taught"]


def test_a_weak_teacher_teaches_where_it_is_asked_to(arguments, capsys):
    metrics = finetune(replace(arguments, weak_teacher="use"), teacher=lambda texts: ["cat"] * len(texts))
    assert "less than two thirds" in " ".join(capsys.readouterr().err.split())
    assert "What it teaches may do harm" in (Path(arguments.out) / "report.html").read_text("utf-8")
    assert metrics["teacher"]["weak"]
    assert metrics["teacher"]["taught"]
    assert metrics["rounds"][0]["kept"]


def test_a_weak_teacher_that_is_clearly_better_teaches(arguments, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "clearly_better", lambda *right: asked.append(right) or True)
    metrics = finetune(arguments, teacher=lambda texts: ["cat"] * len(texts))
    assert metrics["teacher"]["taught"]
    ((teacher, plain),) = asked
    assert teacher.mean() == metrics["teacher"]["dev"]["accuracy"]
    assert plain.mean() == metrics["plain"]["dev"]["accuracy"]


def test_a_budget_ends_it_with_the_best_so_far(arguments):
    metrics = finetune(replace(arguments, budget_minutes=1e-9), teacher=answers)
    assert metrics["stopped_early"]
    assert [len(done["trials"]) for done in metrics["rounds"]] == [1]


@pytest.mark.parametrize("moment", ["rounds/*/checkpoint-*/complete*", "rounds/*.safetensors", "rounds/grown-01.json"])
def test_a_killed_run_resumes_to_the_same_model(arguments, world, tmp_path, killed, moment, assert_same_weights):
    expected = finetune(arguments)
    out = tmp_path / "killed"
    line = ["finetune", "--train", world.train, "--dev", world.dev, "--test", world.test, "--model", world.encoder]
    line += ["--out", str(out), "--learning_rates", "1e-3", "1e-2", "--batch_sizes", "8", "--max_epochs", "2"]
    line += ["--max_length", "32", "--precision", "fp32", "--checkpoint_minutes", "0", "--points_per_mistake", "3"]
    line += ["--transforms", "swap", "typo", "delete", "--min_cosine", "-1", "--max_cosine", "2"]
    killed(line, out, moment)
    assert not (out / "metrics.json").exists()
    metrics = finetune(replace(arguments, out=str(out), resume=True))
    assert metrics["rounds"] == expected["rounds"]
    assert metrics["test"] == expected["test"]
    assert_same_weights(arguments.out, out)


def test_a_run_interrupted_in_a_later_round_resumes_to_the_same_model(
    arguments, tmp_path, monkeypatch, assert_same_weights
):
    settings, score = replace(arguments, learning_rates=[1e-3, 3e-3, 1e-2, 2e-2], prune="halving"), Fitting.score
    monkeypatch.setattr(Fitting, "score", lambda self, *given: (self.round == 2) + score(self, *given))  # the best
    expected = finetune(settings, teacher=answers)
    assert len(expected["rounds"]) > 2
    settings, fit = replace(settings, out=str(tmp_path / "interrupted")), Fitting.fit

    def interrupted(self, theta, *rest):
        if self.round == 3:
            raise KeyboardInterrupt
        return fit(self, theta, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, teacher=answers)
    metrics = finetune(replace(settings, resume=True), teacher=answers)
    assert metrics["rounds"] == expected["rounds"]
    assert_same_weights(arguments.out, settings.out)


@pytest.mark.parametrize("shared", [True, False])
def test_combinations_may_be_fitted_by_workers_elsewhere(arguments, tmp_path, shared, assert_same_weights):
    """What is sent to another process does the same there, also where it does not see the run's folder."""
    out = tmp_path / "else"

    class Elsewhere:
        sees_files = shared

        def map(self, function, items):
            sent = pickle.loads(pickle.dumps(function))
            for result in InProcess().map(sent, items):
                assert shared or not isinstance(result.value.model, Path)
                yield pickle.loads(pickle.dumps(result))

    expected = finetune(arguments, teacher=answers)
    metrics = finetune(replace(arguments, out=str(out)), teacher=answers, workers=Elsewhere())
    assert metrics["rounds"] == expected["rounds"]
    assert_same_weights(arguments.out, out)


@pytest.mark.slow
@pytest.mark.parametrize("files", ["shared", "sent"])
def test_combinations_may_be_fitted_on_ray(arguments, tmp_path, cluster, one_thread, files, assert_same_weights):
    settings = replace(arguments, out=str(tmp_path / "ray"), workers=cluster, trial_files=files)
    expected, metrics = finetune(arguments, teacher=answers), finetune(settings, teacher=answers)
    assert metrics["rounds"] == expected["rounds"]
    assert metrics["test"] == expected["test"]
    assert_same_weights(arguments.out, settings.out)


def test_a_finished_run_is_left_as_it_is(arguments):
    first = finetune(arguments, teacher=answers)
    assert finetune(replace(arguments, resume=True)) == first


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"points_per_mistake": -1}, "points-per-mistake.*at least 0"),
        ({"points_per_mistake": 0}, "points-per-mistake.*where no unlabelled texts are given"),
        ({"transforms": ["shuffle"]}, "transforms.*'shuffle'.*must be of infill"),
        ({"min_cosine": 0.9, "max_cosine": 0.8}, "min-cosine.*below --max-cosine"),
        ({"temperature": 0.0}, "temperature.*above 0"),
        ({"replay": -1}, "replay.*at least 0"),
        ({"budget_minutes": 0.0}, "budget-minutes.*above 0"),
        ({"teacher": "a/b", "teacher_command": "cat"}, "give one teacher"),
        ({"unlabelled": "no-such-file.txt"}, "no-such-file.txt"),
    ],
)
def test_bad_settings_are_told_before_anything_is_made(arguments, settings, rule):
    with pytest.raises(BortError, match=rule):
        finetune(replace(arguments, **settings))
    assert not Path(arguments.out).exists()


def test_an_unlabelled_pair_among_single_texts_is_told(arguments, tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"text": "a", "text_b": "b"}\n', "utf-8")
    with pytest.raises(BortError, match=r"pool.jsonl:1: column 'text_b'.*must hold pairs where"):
        finetune(replace(arguments, unlabelled=str(pool)))
