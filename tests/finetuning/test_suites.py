"""Fine-tuning on tasks by name: one, several, with choices, plainly and by Agora."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

import bort
from bort.agora.run import finetune
from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.hyper_parameters import usual_epochs, usual_interval
from bort.finetuning.splits import drawn, read_splits
from bort.finetuning.suite_scores import SuiteRun
from bort.finetuning.suites import finetune_each, suite_report, suite_rows, table_rows, tasks_to_fit
from bort.model.tokenization import load_tokenizer
from bort.predict.classifiers import load_classifier, new_classifier, predict_logits
from bort.predict.encoding import encode
from bort.tasks.classification import Classification
from bort.tasks.suites.reading import read_part
from bort.tasks.suites.table import TASKS


@pytest.fixture
def arguments(world, official, tmp_path):
    """A tiny plain fine-tuning on a task that a test names."""
    settings = world.finetuning(tmp_path, method="plain", learning_rates=[1e-2], max_epochs=1)
    return replace(settings, train="", dev=None, test=None, data=str(official))


@pytest.mark.parametrize(
    "name", ["cola", "stsb", "mnli", "superglue_rte", "copa", "multirc", "record", "wic", "wsc", "race_m"]
)
def test_every_shape_of_task_is_fitted_and_scored(arguments, name):
    task = TASKS[name]
    metrics = bort.finetune(replace(arguments, task=[task.name])).metrics
    scores = metrics["official"][name]["dev"]
    assert tuple(scores["scores"]) == task.metrics
    for metric, value in scores["scores"].items():
        low, high = scores["confidence"][metric]
        assert low <= value <= high
    assert metrics["cast"] == "improved"
    assert metrics == json.loads((Path(arguments.out) / "metrics.json").read_text("utf-8"))
    config = json.loads((Path(arguments.out) / "config.json").read_text("utf-8"))
    assert (config["bort_task"], config["bort_cast"]) == (name, "improved")
    chooses = task.chooses("improved")
    assert config["architectures"] == ["BertForMultipleChoice" if chooses else "BertForSequenceClassification"]
    opened = AutoModelForMultipleChoice if chooses else AutoModelForSequenceClassification
    assert opened.from_pretrained(arguments.out).config.num_labels == (len(task.labels) or 1)
    if name == "mnli":
        assert metrics["official"]["mnli_mm"]["dev"]["scores"].keys() == {"accuracy"}
    if name == "superglue_rte":
        assert metrics["official"]["axg"]["test"]["scores"].keys() == {"parity", "accuracy"}


def test_choices_are_learned(world, tmp_path):
    """The right choice says what the premise says, wherever it stands."""
    sentences = [json.loads(line)["text"] for line in Path(world.train).read_text("utf-8").splitlines()]
    rng = np.random.default_rng(0)

    def row(index: int) -> dict:
        label = int(rng.integers(2))
        choices = ["The grey cat.", "A quiet student."]
        return {"premise": sentences[index % 40], "choice1": choices[label], "choice2": choices[1 - label]} | {
            "question": "cause",
            "label": label,
            "idx": index,
        }

    for part, count in (("train", 80), ("val", 40)):
        file = tmp_path / "COPA" / f"{part}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(row(i)) + "\n" for i in range(count)))
    settings = world.finetuning(tmp_path, method="plain", learning_rates=[1e-2], max_epochs=8)
    settings = replace(settings, train="", dev=None, test=None, task=["copa"], data=str(tmp_path))
    assert finetune(settings)["dev"]["accuracy"] == 1.0


def test_the_released_cast_makes_pairs(arguments):
    metrics = bort.finetune(replace(arguments, task=["copa"], cast="released")).metrics
    assert metrics["cast"] == "released"
    assert AutoModelForSequenceClassification.from_pretrained(arguments.out).config.num_labels == 2
    assert not load_classifier(arguments.out)[1].choices


def test_choices_go_through_the_model_one_by_one(world, tiny_tokenizer, sentences):
    """A batch of choices gives each example the scores that its pairs have alone."""
    task = Classification(("0", "1"), "accuracy", choices=True)
    model = new_classifier(world.encoder, task)
    examples = [Example(text, choices=(sentences[-1 - i], "A cat.")) for i, text in enumerate(sentences[:9])]
    encoded = encode(examples, tiny_tokenizer, 32)
    assert (len(encoded), len(encoded.lengths), encoded.choices) == (9, 9, 2)
    together = predict_logits(model, encoded, tiny_tokenizer.pad_token_id)
    assert together.shape == (9, 2)
    for index, example in enumerate(examples):
        for place, choice in enumerate(example.choices):
            pair = tiny_tokenizer(example.text, choice, return_tensors="pt")
            alone = model(**{name: tensor[:, None] for name, tensor in pair.items()}).logits
            assert together[index, place] == pytest.approx(float(alone.detach()), abs=1e-5)


def test_examples_must_have_equally_many_choices(tiny_tokenizer):
    examples = [Example("a", choices=("b", "c")), Example("a", choices=("b",), source="f", line=2)]
    with pytest.raises(BortError, match="f:2: value 1: must have 2 choices"):
        encode(examples, tiny_tokenizer, 32)


@pytest.mark.slow
def test_several_tasks_make_a_table(arguments, official):
    results = bort.finetune(replace(arguments, task=["glue"], max_train_rows=6)).metrics
    out = Path(arguments.out)
    fitted = [name for name, task in TASKS.items() if task.suite == "glue" and task.trains]
    assert list(results["tasks"]) == fitted
    assert sorted(path.name for path in out.iterdir()) == sorted([*fitted, "report.html", "results.json"])
    assert {run["rows"]["train"] for run in results["tasks"].values()} == {6}
    assert results["suites"]["glue"]["tasks"] == results["suites"]["glue"]["of"] == 9
    rows = table_rows(results["official"])
    assert [row[0] for row in rows] == [TASKS[name].title for name in [*fitted[:6], "mnli_mm", *fitted[6:]]]
    by_title = {row[0]: row for row in rows}
    assert by_title["MRPC"][4:] == ["94.1/92.3", "89.3/85.4"]
    assert suite_rows(results["suites"])[0][4:] == ["83.6", "80.5"]
    page = (out / "report.html").read_text("utf-8")
    assert "94.1/92.3" in page
    assert "claim" in page
    written = json.loads((out / "results.json").read_text("utf-8"))
    assert page == suite_report(out.name, written).text()
    assert written["official"] == json.loads(json.dumps(results["official"]))
    before = (out / "cola/metrics.json").stat().st_mtime_ns
    again = bort.finetune(replace(arguments, task=["glue"], max_train_rows=6, resume=True)).metrics
    assert again["official"] == results["official"]
    assert (out / "cola/metrics.json").stat().st_mtime_ns == before


def test_a_task_that_fails_does_not_end_the_suite(arguments, official, tmp_path, capsys):
    folder = tmp_path / "glue"
    shutil.copytree(official / "glue/CoLA", folder / "CoLA")
    shutil.copytree(official / "glue/RTE", folder / "RTE")
    good = (folder / "CoLA/dev.tsv").read_text("utf-8")
    (folder / "CoLA/dev.tsv").write_text("x\t7\t\tText\n", "utf-8")
    settings = replace(arguments, task=["glue"], data=str(tmp_path))
    with pytest.raises(BortError, match=r"column 'task': value 'cola': failed; the other tasks are done"):
        bort.finetune(settings)
    assert "CoLA failed: " in capsys.readouterr().err
    out = Path(arguments.out)
    written = json.loads((out / "results.json").read_text("utf-8"))
    assert written["official"].keys() == {"rte"}
    assert "dev.tsv:1: column 'label': value '7': must be one of 0, 1" in written["failed"]["cola"]
    assert "Failed, see results.json: CoLA." in (out / "report.html").read_text("utf-8")
    (folder / "CoLA/dev.tsv").write_text(good, "utf-8")
    results = bort.finetune(replace(settings, resume=True)).metrics
    assert results["failed"] == {}
    assert results["official"].keys() == {"cola", "rte"}


def test_an_unforeseen_failure_of_one_task_is_kept_with_its_traceback(arguments, tmp_path):
    def fit(own):
        if own.task == ["cola"]:
            raise RuntimeError("out of memory")
        return {"official": {}, "rows": {"train": 1}, "best_theta": "x"}

    tasks = [TASKS["cola"], TASKS["rte"]]
    results = finetune_each(replace(arguments, out=str(tmp_path)), tasks, fit)
    assert results["tasks"].keys() == {"rte"}
    assert "RuntimeError: out of memory" in results["failed"]["cola"]
    with pytest.raises(RuntimeError, match="out of memory"):
        finetune_each(replace(arguments, out=str(tmp_path / "x")), tasks[:1], fit)
    assert not (tmp_path / "x").exists()


def test_where_nobody_reads_the_scores_any_more_the_tasks_are_fitted_all_the_same(arguments, tmp_path):
    def show(own, metrics):
        raise BrokenPipeError

    tasks = [TASKS["cola"], TASKS["rte"]]
    metrics = {"official": {}, "rows": {"train": 1}, "best_theta": "x"}
    results = finetune_each(replace(arguments, out=str(tmp_path)), tasks, lambda own: metrics, show)
    assert (results["tasks"].keys(), results["failed"]) == ({"cola", "rte"}, {})


def test_bad_data_of_a_diagnostic_do_not_end_the_run(tmp_path, capsys):
    row = {"premise": "a", "hypothesis": "b", "label": "entailment", "idx": 0}
    (tmp_path / "AX-g").mkdir()
    (tmp_path / "AX-g/test.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    run = SuiteRun(TASKS["superglue_rte"], "improved", str(tmp_path), {})
    fitter = SimpleNamespace(tokens=SimpleNamespace(tokenizer=load_tokenizer("bort-nano"), max_length=16))
    fitter.logits = lambda model, encoded: np.zeros((len(encoded), 2), np.float32)
    assert run.judge(fitter, None, {}) == {"official": {"superglue_rte": {}}, "cast": "improved"}
    assert "AX-g is not scored: value 1: gender parity compares pairs" in capsys.readouterr().err


def test_the_model_of_a_suite_may_be_a_path(arguments, official, tmp_path, monkeypatch):
    done = {"official": {}, "rows": {"train": 1}, "best_theta": "x"}
    monkeypatch.setattr("bort.cli.finetune._fit", lambda own, teacher: done)
    monkeypatch.setattr("bort.cli.finetune._print_scores", lambda own, metrics: None)
    out = tmp_path / "suite"
    bort.finetune(replace(arguments, model=Path(arguments.model), task=["cola", "rte"], out=out))
    assert json.loads((out / "results.json").read_text("utf-8"))["model"] == arguments.model


def test_parts_of_a_suite_are_not_put_beside_its_claims():
    found = {"glue": {"development": 0.5, "tasks": 2, "of": 9}}
    assert suite_rows(found) == [["GLUE", "mean of 2 of 9 tasks", "50.0", "", "", ""]]


def test_what_a_benchmarks_folder_lacks_is_left_out_and_named(arguments, official, tmp_path, capsys):
    folder = tmp_path / "glue"
    folder.mkdir()
    for name in ("CoLA", "RTE"):
        (folder / name).symlink_to(official / "glue" / name)
    here = replace(arguments, data=str(tmp_path))
    assert [task.name for task in tasks_to_fit(replace(here, task=["glue"]))] == ["cola", "rte"]
    assert "no training data of them: SST-2, MRPC, STS-B, QQP, MNLI, QNLI, WNLI" in " ".join(
        capsys.readouterr().err.split()
    )
    (folder.parent / "BoolQ").symlink_to(official / "superglue/BoolQ")
    for name in ("superglue", "super_glue", "Super-GLUE"):
        assert [task.name for task in tasks_to_fit(replace(here, task=[name]))] == ["boolq"]
    with pytest.raises(BortError, match="no train data of MRPC"):
        tasks_to_fit(replace(here, task=["rte", "mrpc"]))
    with pytest.raises(BortError, match="'ax': has no training data; mnli models predict it"):
        tasks_to_fit(replace(here, task=["rte", "ax"]))
    with pytest.raises(BortError, match="no train data of MRPC"):
        bort.finetune(replace(here, task=["mrpc"]))
    with pytest.raises(BortError, match="holds the training data of none of the tasks"):
        tasks_to_fit(replace(here, task=["race"]))


def test_agora_holds_out_whole_passages_and_balances_what_is_left(arguments):
    for name in ("multirc", "record"):
        data = read_splits(replace(arguments, task=[name], method="agora"), hold_out=True)
        held, task = data.suite.rows["test"], TASKS[name]
        assert data.held_out
        passages = {row.idx[0] for row in held}
        kept = {row.idx[0] for row in read_part(task, arguments.data, "train")} - passages
        assert passages
        assert kept
        assert [row.example for row in held] == data.test
        labels = [example.label for example in data.train]
        if name == "record":
            # one right entity a question, so one wrong one; all four entities where it is scored
            assert labels.count("0") == labels.count("1") == len(kept)
            assert len(held) == 3 * len(passages)


def test_copies_of_a_row_are_held_out_together(arguments, tmp_path):
    (tmp_path / "CoLA").mkdir()
    rows = [f"x\t{n % 2}\t\t{text} {n}." for n in range(20) for text in ("It rains", "it  RAINS")]
    for part in ("train", "dev"):
        (tmp_path / f"CoLA/{part}.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    data = read_splits(replace(arguments, task=["cola"], data=str(tmp_path), method="agora"), hold_out=True)
    train, test = ({fold_text(example.text) for example in part} for part in (data.train, data.test))
    assert (len(train), len(test)) == (16, 4)
    assert not train & test


def test_agora_fits_a_task(arguments):
    settings = replace(arguments, task=["mrpc"], method="agora", transforms=["swap", "typo"], points_per_mistake=1)
    metrics = bort.finetune(replace(settings, min_cosine=-1.0, max_cosine=2.0)).metrics
    assert metrics["held_out"]
    assert metrics["official"]["mrpc"].keys() == {"dev", "test"}
    assert metrics["official"]["mrpc"]["test"]["scores"]["accuracy"] == metrics["test"]["accuracy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ["copa"], "method": "agora"}, "COPA has choices: give --method plain or --cast released"),
        ({"task": ["superglue"], "method": "agora"}, "COPA has choices"),
        ({"task": ["ax"]}, "has no training data; mnli models predict it"),
        ({"task": ["nosuch"]}, "is no task"),
        ({"task": ["cola"], "data": ""}, "--task and --data go together"),
        ({"task": [], "data": ""}, "give --train FILE, or --task NAME"),
        ({"task": ["cola"], "train": "x.csv"}, "give --train FILE, or --task NAME"),
        ({"task": ["cola"], "dev": "x.csv"}, "--dev.*a task brings its own data"),
        ({"task": ["cola"], "metric": "pearson"}, "metric of a classification task"),
        ({"task": ["cola"], "max_train_rows": 1}, "max-train-rows"),
    ],
)
def test_bad_settings(arguments, change, message):
    with pytest.raises(BortError, match=message) as caught:
        bort.finetune(replace(arguments, **change))
    assert len(str(caught.value)) < 400
    assert not Path(arguments.out).exists()


def test_one_run_is_of_one_task(arguments):
    with pytest.raises(BortError, match="fits one task"):
        finetune(replace(arguments, task=["cola", "rte"]))


def test_so_many_rows_are_drawn_always_the_same():
    examples = [Example(str(i)) for i in range(50)]
    few = drawn(examples, 10)
    assert len(few) == 10
    assert few == drawn(examples, 10) == sorted(few, key=lambda example: int(example.text))
    assert drawn(examples, 90) == drawn(examples, None) == examples


@pytest.mark.parametrize(("rows", "epochs"), [(84, 30), (8551, 23), (67349, 3), (392702, 3)])
def test_large_data_are_not_passed_over_30_times(rows, epochs):
    assert usual_epochs(rows) == epochs


@pytest.mark.parametrize(
    ("epoch_steps", "steps", "dev_rows", "batch", "interval"),
    [
        (4, 120, 200, 32, 4),
        (13, 390, 200, 8, 13),
        (13, 390, 800, 8, 34),
        (13, 390, 5000, 8, 49),
        (131, 393, 200, 16, 50),
        (229, 6870, 408, 16, 229),
        (4210, 12630, 872, 16, 1000),
        (12600, 63000, 120_000, 16, 2500),
        (500, 5000, 120_000, 16, 625),
        (1, 1, 10, 16, 1),
    ],
)
def test_large_development_data_are_not_scored_all_the_time(epoch_steps, steps, dev_rows, batch, interval):
    assert usual_interval(epoch_steps, steps, dev_rows, batch) == interval


def test_the_tokenizer_of_a_run_cuts_at_the_tasks_length(arguments, world):
    finetune(replace(arguments, task=["boolq"], max_length=None))
    # 256 for BoolQ, but the tiny model has 64 positions
    assert load_tokenizer(arguments.out).model_max_length == 64
