"""Several labels a text, from a file to a folder that others open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers

from bort.agora.run import finetune
from bort.cli.evaluate import EvaluateArguments, evaluate
from bort.cli.predict import PredictArguments, predict
from bort.data.tables.examples import Columns, read_examples
from bort.errors import BortError
from bort.finetuning.splits import read_splits
from bort.predict.predictor import Predictor
from bort.tasks.metrics import METRICS
from bort.tasks.multilabel import MultiLabel

NAMES = ("apples", "cat", "walking")


@pytest.fixture
def arguments(world, tmp_path):
    data = {"train": world.multilabel, "dev": None, "test": world.multilabel_test}
    return world.finetuning(tmp_path, method="head", **data)


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> Path:
    """A fine-tuned folder."""
    folder = tmp_path_factory.mktemp("multilabel")
    data = {"train": world.multilabel, "dev": None, "test": world.multilabel_test}
    settings = {"learning_rates": [5e-3], "max_epochs": 8, "keep_better": False, "refit": False}
    finetune(world.finetuning(folder, method="plain", **data, **settings))
    return folder / "run"


def test_a_linear_head_finds_the_labels(arguments):
    metrics = finetune(arguments)
    out = Path(arguments.out)
    assert metrics == json.loads((out / "metrics.json").read_text("utf-8"))
    assert (metrics["task"], metrics["metric"], metrics["labels"]) == ("multilabel", "f1_micro", list(NAMES))
    assert set(metrics["test"]) == {*METRICS["multilabel"]}
    assert "one-vs-rest logistic regression" in metrics["linear_head"]["described"]
    assert metrics["confusion"] is None
    assert set(metrics["thresholds"]) == {*NAMES}
    assert metrics["test"] == pytest.approx(metrics["linear_head"]["test"]), "the same head at the same thresholds"
    truth = read_examples(arguments.test)
    counts = {name: sum(name in example.label for example in truth) for name in NAMES}
    assert {row["label"]: row["examples"] for row in metrics["by_label"]} == counts
    # A random encoder says something of the words; one who answers at random finds a fifth.
    assert metrics["test"]["mean_average_precision"] > 0.3
    page = (out / "report.html").read_text("utf-8")
    assert "Label by label" in page
    assert "threshold" in page


def test_plain_fine_tuning_learns_the_labels(run):
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert metrics["result"] == "fine-tuned"
    assert metrics["test"]["f1_micro"] > 0.5
    assert metrics["rows"]["dev"] >= 30


def test_each_part_has_its_share_of_each_label(arguments, world):
    metrics = finetune(replace(arguments, test=None))
    rows = read_examples(world.multilabel)
    shares = {name: sum(name in row.label for row in rows) / len(rows) for name in NAMES}
    for row in metrics["by_label"]:
        assert row["examples"] / metrics["rows"]["dev"] == pytest.approx(shares[row["label"]], abs=0.08)


def test_the_pipeline_of_transformers_gives_the_same_scores(run, world):
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    texts = [example.text for example in read_examples(world.multilabel_test)][:20]
    with Predictor(str(run)) as predictor:
        ours = predictor.predict_proba(texts)
        assert predictor.task == MultiLabel.of_model(NAMES, "f1_micro", config["bort_thresholds"])
        for text, row, answer in zip(texts, ours, predictor.predict(texts), strict=True):
            theirs = {each["label"]: each["score"] for each in pipe([text], truncation=True)[0]}
            assert dict(zip(NAMES, row.tolist(), strict=True)) == pytest.approx(theirs, abs=1e-5)
            assert answer.label == tuple(name for name in NAMES if theirs[name] > config["bort_thresholds"][name])
    assert np.ptp(ours, axis=0).max() > 0.1, "the answers should differ, or the test says nothing"


def test_evaluate_gives_the_runs_own_figures(run, world):
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    found = evaluate(EvaluateArguments(model=str(run), data=world.multilabel_test, resamples=0))
    assert {name: score.value for name, score in found.scores.items()} == pytest.approx(metrics["test"])


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_what_predict_writes_is_read_as_labels(run, world, tmp_path, name):
    predict(PredictArguments(model=str(run), input=world.multilabel_test, output=str(tmp_path / name)))
    columns = Columns(label="prediction", label_separator=";" if name.endswith("csv") else None)
    found = read_examples(tmp_path / name, columns)
    with Predictor(str(run)) as predictor:
        wanted = predictor.predict([example.text for example in found])
    assert [example.label for example in found] == [answer.label for answer in wanted]
    head = (tmp_path / name).read_text("utf-8").splitlines()[0]
    assert "p(cat)" in head
    assert "probability" not in head


def test_the_three_forms_of_data_give_the_same_model(arguments, world, tmp_path, assert_same_weights):
    rows = [json.loads(line) for line in Path(world.multilabel).read_text("utf-8").splitlines()]
    joined = "".join(f'"{row["text"]}",{"|".join(row["label"])}\n' for row in rows)
    (tmp_path / "joined.csv").write_text("text,label\n" + joined, "utf-8")
    flags = "".join(f'"{row["text"]}",{",".join(str(int(n in row["label"])) for n in NAMES)}\n' for row in rows)
    (tmp_path / "flags.csv").write_text("text," + ",".join(NAMES) + "\n" + flags, "utf-8")
    forms = {
        "lists": {},
        "joined": {"train": str(tmp_path / "joined.csv"), "label_separator": "|"},
        "flags": {"train": str(tmp_path / "flags.csv"), "label": list(NAMES)},
    }
    for name, settings in forms.items():
        finetune(replace(arguments, test=None, out=str(tmp_path / name), **settings))
    assert_same_weights(tmp_path / "lists", tmp_path / "joined")
    assert_same_weights(tmp_path / "lists", tmp_path / "flags")


def test_labels_that_look_joined_are_told_of(arguments, world, tmp_path, capfd):
    rows = [json.loads(line) for line in Path(world.multilabel).read_text("utf-8").splitlines()]
    joined = "".join(f'"{row["text"]}",{";".join(row["label"]) or "none"}\n' for row in rows)
    (tmp_path / "joined.csv").write_text("text,label\n" + joined, "utf-8")
    read_splits(replace(arguments, train=str(tmp_path / "joined.csv"), dev=str(tmp_path / "joined.csv"), test=None))
    assert "taken for one class; --label-separator ';' splits them" in " ".join(capfd.readouterr().err.split())


def test_a_label_that_no_text_has_is_never_given(arguments, world):
    finetune(replace(arguments, classes=[*NAMES, "whales"]))
    with Predictor(arguments.out) as predictor:
        texts = [example.text for example in read_examples(world.multilabel_test)]
        assert all("whales" not in answer.label for answer in predictor.predict(texts))


def test_rare_labels_may_count_as_much(arguments):
    """Weights make the sum over the positives of each label the same."""
    splits = read_splits(arguments)
    fitter = splits.fitter(replace(arguments, balance=True))
    labelled = fitter.labelled(splits.train)
    weights = fitter._class_weights(labelled).numpy()
    products = weights * labelled.targets.sum(0)
    np.testing.assert_allclose(products, products.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (['{"text": "a", "label": ["x"]}', '{"text": "b", "label": "y"}'], {}, "in every row or in none"),
        (['{"text": "a", "label": "x;y"}', '{"text": "b", "label": "y"}'], {"kind": "multilabel"}, "list of labels"),
        (['{"text": "a", "label": ["x"]}', '{"text": "b", "label": []}'], {}, "at least two distinct labels"),
        (['{"text": "a", "label": ["x"]}', '{"text": "b", "label": ["y"]}'], {}, "2 examples, too few to split"),
        (['{"text": "a", "label": ["x"]}', '{"text": "b", "label": ["y"]}'], {"metric": "accuracy"}, "f1_micro"),
    ],
)  # fmt: skip
def test_refused_where_it_is_unclear(arguments, tmp_path, rows, settings, message):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows), "utf-8")
    with pytest.raises(BortError, match=message):
        finetune(replace(arguments, train=str(file), test=None, **settings))
