"""`bort evaluate --task` and `bort submit`: official scores, and the leaderboards' files."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

import bort as package
from bort.errors import BortError
from bort.predict.classifiers import new_classifier, save_classifier
from bort.tasks.suites.table import TASKS


@pytest.fixture(scope="module")
def models(world, tiny_tokenizer, tmp_path_factory) -> Path:
    """A folder with an untrained model a task, named as `bort finetune --task` names them."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("cola", "stsb", "mnli", "superglue_rte", "copa", "multirc", "record", "wsc"):
        task = TASKS[name].task()
        cast = "released" if name == "wsc" else "improved"
        save_classifier(new_classifier(world.encoder, task), tiny_tokenizer, folder / name, 64, bort_cast=cast)
    return folder


def test_a_task_is_scored_by_its_metrics(bort, models, official):
    done = bort("evaluate", "--task", "CoLA", "--data", official, "--model", models / "cola", "--resamples", 50)
    assert done.status == 0
    assert "CoLA, development" in " ".join(done.out.split())
    assert "matthews" in done.out
    assert "accuracy" not in done.out
    assert "claimed by the papers, hidden test: Bort 63.9, BERT-large 60.5" in done.out


def test_json_is_one_object(bort, models, official, tmp_path):
    line = ["evaluate", "--task", "multirc", "--data", official, "--model", models / "multirc", "--json"]
    done = bort(*line, "--submit", tmp_path, "--resamples", 20)
    assert done.status == 0
    result = json.loads(done.out)
    assert {"f1a", "em", "confidence", "file", "zips", "lacking"} <= result.keys()
    assert (result["task"], result["part"], result["rows"]) == ("multirc", "dev", 20)


def test_submit_writes_the_file_and_the_zip_and_names_what_lacks(bort, models, official, tmp_path):
    out = tmp_path / "answers"
    done = bort("evaluate", "--task", "copa", "--data", official, "--model", models / "copa", "--submit", out)
    assert done.status == 0
    lines = (out / "COPA.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["idx"] for line in lines] == list(range(12))
    assert "COPA: 12 answers where the leaderboard wants 500" in done.out
    assert "CB: no answers" in done.out
    assert "12 rows of test data; officially there are 500" in done.err
    assert zipfile.ZipFile(out / "superglue.zip").namelist() == []


def test_diagnostics_take_the_model_of_another_task(bort, models, official, tmp_path):
    done = bort("evaluate", "--task", "AX-g", "--data", official, "--model", models / "superglue_rte", "--resamples", 0)
    assert done.status == 0
    assert "parity" in done.out
    assert "AX-g, test data" in " ".join(done.out.split())
    line = ["evaluate", "--task", "ax", "--data", official, "--model", models / "mnli"]
    bort(*line).refused("diagnostic.tsv", "the labels of AX are hidden", "--submit")
    done = bort(*line, "--submit", tmp_path)
    assert done.status == 0
    assert (tmp_path / "AX.tsv").read_text("utf-8").startswith("index\tprediction\n0\t")


def test_a_model_says_how_its_task_was_cast(bort, models, official, monkeypatch):
    asked = []
    from bort.predict import suite_task as scoring

    read = scoring.read_part
    monkeypatch.setattr(scoring, "read_part", lambda *a, **k: asked.append(k["cast"]) or read(*a, **k))
    line = ["evaluate", "--task", "wsc", "--data", official, "--model", models / "wsc", "--resamples", 0]
    assert bort(*line).status == 0
    assert bort(*line, "--cast", "improved").status == 0
    assert asked == ["released", "improved"]


def test_submit_answers_all_tasks_that_have_a_model(bort, models, official, tmp_path):
    done = bort("submit", "--task", "glue", "race", "--models", models, "--data", official, "--out", tmp_path)
    assert done.status == 0
    names = {"CoLA.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "glue.zip"}
    assert {file.name for file in tmp_path.iterdir()} == names
    for title in ("SST-2", "MRPC", "QQP", "QNLI", "RTE", "WNLI", "RACE-M"):
        assert f"{title}: {models} has no model of it" in done.err
    assert "glue.zip, which lacks:" in done.out


def test_a_task_that_cannot_be_answered_does_not_stop_the_others(bort, models, official, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(official / "glue", data / "glue")
    (data / "glue/CoLA/test.tsv").write_text("index\tsentence\n0\t \n", "utf-8")
    done = bort("submit", "--task", "cola", "stsb", "--models", models, "--data", data, "--out", tmp_path / "out")
    assert done.status == 2
    assert "CoLA failed: " in done.err
    assert "--task: value 'cola': failed; the other tasks are answered" in done.err
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"STS-B.tsv", "glue.zip"}


def test_submit_packs_no_answers_of_an_earlier_submission(bort, models, official, tmp_path):
    for name in ("SST-2", "QNLI"):
        (tmp_path / f"{name}.tsv").write_text("index\tprediction\n0\t1\n")
    line = ["submit", "--models", models, "--data", official, "--out", tmp_path, "--task", "cola", "sst2"]
    done = bort(*line)
    assert done.status == 0
    assert "SST-2: no new answers, and SST-2.tsv is of an earlier submission" in done.out
    assert "QNLI: 1 answers where the leaderboard wants 5,463" in done.out, "its answers were not asked for now"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["evaluate", "--task", "glue", "--model", "cola"], ["'glue'", "use bort submit"]),
        (["evaluate", "--task", "colla", "--model", "cola"], ["did you mean cola?"]),
        (["evaluate", "--task", "cb", "--model", "cola"], ["CB needs a model that answers with entailment"]),
        (["evaluate", "--task", "copa", "--model", "cola"], ["does not score choices one by one", "--cast released"]),
        (["evaluate", "--task", "stsb", "--model", "cola"], ["answers with a number", "0, 1"]),
        (["evaluate", "--submit", "x", "--model", "cola"], ["--submit", "needs --task"]),
        (["evaluate", "--task", "cola", "--long", "mean", "--model", "cola"], ["--long: value 'mean': has no effect"]),
        (["evaluate", "--task", "cola", "--text", "a", "--model", "cola"], ["--text: value 'a': has no effect"]),
        (["evaluate", "--task", "cola", "--text-b", "a", "--model", "cola"], ["--text-b", "leave it out"]),
        (["evaluate", "--task", "cola", "--label", "a", "b", "--model", "cola"], ["--label: value ['a', 'b']"]),
        (["evaluate", "--task", "cola", "--label-separator", ";", "--model", "cola"], ["--label-separator"]),
        (["evaluate", "--task", "cola", "--delimiter", ";", "--model", "cola"], ["--delimiter", "with --task"]),
    ],
)
def test_mistakes(bort, models, official, words, parts):
    bort(*words[:-1], models / words[-1], "--data", official).refused(*parts)


def test_a_task_is_not_scored_on_other_data(models, official):
    arguments = package.EvaluateArguments(str(models / "cola"), str(official), task="cola")
    with pytest.raises(BortError, match="--data: a task brings its own data"):
        package.evaluate(arguments, data=[{"text": "It rains.", "label": "1"}])


def test_a_missing_folder_is_told_before_its_tasks(bort, models, official, tmp_path):
    for words in (("--models", "nope", "--data", "nope"), ("--models", models, "--data", "nope")):
        bort("submit", *words, "--out", tmp_path / "x").refused("nope: no such folder")


def test_nothing_to_submit(bort, models, official, tmp_path):
    done = bort("submit", "--task", "cb", "--models", models, "--data", official, "--out", tmp_path / "x")
    assert done.status == 2
    assert "there is no task with a model and test data" in done.err
    assert not (tmp_path / "x").exists()


def test_predict_cannot_choose(bort, models, tmp_path):
    (tmp_path / "in.txt").write_text("It rains.\n")
    bort("predict", "--model", models / "copa", "--input", tmp_path / "in.txt").refused("chooses between texts")
