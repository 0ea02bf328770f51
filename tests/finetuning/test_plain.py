import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

import bort
from bort.agora.run import finetune
from bort.agora.session import Session
from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example, read_examples
from bort.errors import BortError, flag
from bort.finetuning import fitter as module
from bort.finetuning import splits
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.hyper_parameters import grid
from bort.finetuning.report import finetune_report
from bort.finetuning.splits import read_splits, split_off
from bort.predict.predictor import Predictor
from bort.serve.model import known_mistakes
from bort.tasks.classification import Classification
from bort.tasks.kinds import task_of


@pytest.fixture
def arguments(world, tmp_path) -> FinetuneArguments:
    return world.finetuning(
        tmp_path, method="plain", keep_better=False, refit=False, learning_rates=[1e-2], max_epochs=4
    )


def test_learns_and_leaves_a_whole_run(arguments, world, finetuned_files, page_of_files):
    metrics = finetune(replace(arguments, max_epochs=10, learning_rates=[1e-2, 3e-2]))
    assert metrics["test"]["accuracy"] > 0.8
    low, high = metrics["test_confidence"]["accuracy"]
    assert low <= metrics["test"]["accuracy"] <= high
    assert metrics["labels"] == ["cat", "other"]
    run = Path(arguments.out)
    assert {file.name for file in run.iterdir()} == finetuned_files
    truth = {example.text: example.label for example in read_examples(world.test)}
    assert len(metrics["test_errors"]) == round((1 - metrics["test"]["accuracy"]) * len(truth))
    for error in metrics["test_errors"]:
        assert truth[error["text"]] == error["label"] != error["prediction"]
    assert [error["text"] for error in known_mistakes(arguments.out)] == [e["text"] for e in metrics["test_errors"][:8]]
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.id2label == {0: "cat", 1: "other"}
    trials = [json.loads(line) for line in (run / "journal.jsonl").read_text("utf-8").splitlines()]
    assert sum(event["event"] == "trial" for event in trials) == 2
    assert (run / "report.html").read_text("utf-8") == page_of_files(finetune_report, arguments.out, "trial")


def test_saved_model_scores_what_the_run_says(arguments, world):
    metrics = finetune(arguments)
    predictor = Predictor(arguments.out)
    examples = read_examples(world.dev)
    answers = predictor.stream(examples)
    right = [answer.label == example.label for answer, example in zip(answers, examples, strict=True)]
    assert np.mean(right) == pytest.approx(metrics["dev"]["accuracy"])


def test_best_of_the_grid_by_development_score(arguments):
    """A learning rate of next to nothing loses to one that learns, wherever it stands in the grid."""
    for rates in ([1e-9, 2e-2], [2e-2, 1e-9]):
        out = f"{arguments.out}-{rates[0]}"
        metrics = finetune(replace(arguments, learning_rates=rates, max_epochs=15, out=out))
        assert "learning_rate=0.02" in metrics["best_theta"]


def test_grid_is_every_combination():
    arguments = FinetuneArguments(
        "t", "o", learning_rates=[1, 2], seeds=[0, 1, 2], weight_decays=[0, 1], warmups=[0.1], batch_sizes=[8, 16]
    )
    members = grid(arguments)
    assert len(members) == len(set(members)) == 24


def test_same_seed_same_weights(arguments, tmp_path, weights, assert_same_weights):
    finetune(arguments)
    finetune(replace(arguments, out=str(tmp_path / "again")))
    finetune(replace(arguments, out=str(tmp_path / "other"), seeds=[1]))
    assert_same_weights(arguments.out, tmp_path / "again")
    assert not torch.equal(
        weights(arguments.out)["classifier.weight"], weights(tmp_path / "other")["classifier.weight"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        "rounds/01-001/checkpoint-*/complete.json",
        "rounds/01-000/checkpoint-7/complete.json",
        "rounds/00-001/checkpoint-*/complete.json",
        "rounds/final-1.safetensors",
    ],
)
def test_killed_run_resumes_to_the_same_weights(arguments, world, tmp_path, killed, moment, assert_same_weights):
    """kill -9 inside a combination or a last training, then --resume: bit for bit the uninterrupted run."""
    settings = replace(arguments, learning_rates=[1e-2, 2e-2], refit=True, averaged=3)
    expected = finetune(settings)
    out = tmp_path / "killed"
    line = [
        "finetune",
        "--method",
        "plain",
        "--no_keep_better",
        "--train",
        world.train,
        "--dev",
        world.dev,
        "--test",
        world.test,
        "--model",
        world.encoder,
    ]
    line += ["--out", str(out), "--learning_rates", "1e-2", "2e-2", "--batch_sizes", "8", "--max_epochs", "4"]
    line += ["--max_length", "32", "--precision", "fp32", "--checkpoint_minutes", "0"]
    killed(line, out, moment)
    assert not (out / "metrics.json").exists()
    metrics = finetune(replace(settings, out=str(out), resume=True))
    assert metrics["dev"] == expected["dev"]
    assert_same_weights(arguments.out, out)


def test_a_run_does_not_go_on_with_other_data(arguments, tmp_path, monkeypatch):
    train = tmp_path / Path(arguments.train).name
    shutil.copy(arguments.train, train)
    settings = replace(arguments, train=str(train), out=str(tmp_path / "out"))
    monkeypatch.setattr(Session, "fit", raising)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    monkeypatch.undo()
    changed = train.read_text("utf-8").replace("a", "e", 1)
    whole = train.read_text("utf-8")
    train.write_text(changed, "utf-8")
    with pytest.raises(BortError, match="the training data have changed since the run to resume began"):
        finetune(replace(settings, resume=True))
    train.write_text(whole, "utf-8")
    assert finetune(replace(settings, resume=True))["dev"]


def test_a_run_does_not_go_on_with_another_model_of_the_same_name(arguments, tmp_path, monkeypatch):
    model = shutil.copytree(arguments.model, tmp_path / "model")
    settings = replace(arguments, model=str(model), out=str(tmp_path / "out"))
    monkeypatch.setattr(Session, "fit", raising)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    (model / "journal.jsonl").touch()  # the run that made the model was started again, and had already finished
    with pytest.raises(KeyboardInterrupt):
        finetune(replace(settings, resume=True))
    (model / "config.json").write_text((model / "config.json").read_text("utf-8") + " ")
    with pytest.raises(BortError, match="the files of --model have changed since the run to resume began"):
        finetune(replace(settings, resume=True))


def raising(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_chosen_combination_learns_all_labels_at_the_end(arguments, tmp_path, world, weights):
    alone = finetune(arguments)
    metrics = finetune(replace(arguments, refit=True, out=str(tmp_path / "all")))
    rows = metrics["rows"]
    assert alone["labels_used"] == {"selection": rows["train"], "result": rows["train"]}
    assert metrics["labels_used"] == {"selection": rows["train"], "result": rows["train"] + rows["dev"]}
    # The figure is that of the choice, by a model that has not learned the development data.
    assert metrics["dev"] == alone["dev"]
    assert not torch.equal(weights(tmp_path / "all")["classifier.weight"], weights(arguments.out)["classifier.weight"])
    assert len(metrics["train_texts"].split()) > len(alone["train_texts"].split())
    right = [
        a.label == e.label
        for a, e in zip(
            Predictor(str(tmp_path / "all")).stream(read_examples(world.test)), read_examples(world.test), strict=True
        )
    ]
    assert np.mean(right) == pytest.approx(metrics["test"]["accuracy"])
    assert "The result has learned 60" in Path(tmp_path / "all" / "report.html").read_text("utf-8")


def test_few_development_data_are_not_worth_another_training(arguments, tmp_path, world):
    lines = Path(world.dev).read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "few.jsonl").write_text("".join(lines[:3]))
    metrics = finetune(replace(arguments, refit=True, dev=str(tmp_path / "few.jsonl"), max_epochs=1))
    assert metrics["labels_used"]["result"] == metrics["rows"]["train"]


def test_names_of_files_are_kept_in_the_locale_c(arguments, world, tmp_path):
    data, out = tmp_path / "träin 1.jsonl", tmp_path / "rün 1"
    shutil.copy(world.train, data)
    line = [sys.executable, "-m", "bort", "finetune", "--method", "head", "--model", world.encoder]
    line += ["--train", str(data), "--dev", world.dev, "--out", str(out)]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(line, env={**os.environ, **locale}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rün 1" in (out / "environment.json").read_text("utf-8")
    assert "träin 1" in (out / "config.yaml").read_text("utf-8")


def test_early_stopping(arguments):
    finetune(replace(arguments, learning_rates=[1e-9], max_epochs=50, patience=2, eval_steps=1))
    trial = next(
        json.loads(line)
        for line in Path(arguments.out, "journal.jsonl").read_text("utf-8").splitlines()
        if '"trial"' in line
    )
    assert trial["steps"] == 3
    assert trial["best_step"] == 1


def test_pairs(arguments, world):
    metrics = finetune(replace(arguments, train=world.pairs, dev=None, test=None))
    assert metrics["rows"] == {"train": 32, "dev": 8, "test": 0}
    predictor = Predictor(arguments.out)
    answers = predictor.predict([("a cat", "a cat"), ("a cat", "a dog")])
    assert {answer.label for answer in answers} <= {"0", "1"}


def test_regression_answers_in_the_unit_of_the_labels(arguments, world, tmp_path):
    """Labels far from 0 and widely spread: the fit sees them standardised, the saved head gives them back."""
    rows = [{"text": e.text, "label": 910.5 if e.label == "cat" else 802.25} for e in read_examples(world.train)]
    file = tmp_path / "numbers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = replace(arguments, train=str(file), dev=str(file), test=None, max_epochs=12, learning_rates=[2e-2])
    metrics = finetune(settings)
    assert metrics["task"] == "regression"
    assert metrics["metric"] == "pearson"
    examples = read_examples(file)
    values = np.array([float(example.label) for example in examples])
    answers = np.array([answer.label for answer in Predictor(arguments.out).stream(examples)])
    rmse = float(np.sqrt(np.mean((answers - values) ** 2)))
    assert rmse < 0.8 * values.std()
    assert metrics["dev"]["rmse"] == pytest.approx(rmse, rel=1e-3)


def test_class_weights_by_hand(arguments, world, tmp_path, monkeypatch):
    """Weights n / (k n_c): 3 of one and 1 of the other give 2/3 and 2."""
    rows = [{"text": f"text {i}", "label": "a" if i < 3 else "b"} for i in range(4)]
    file = tmp_path / "few.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = []
    original = module.train_once

    def spy(*args, **kwargs):
        seen.append(kwargs["class_weights"])
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "train_once", spy)
    finetune(replace(arguments, train=str(file), dev=str(file), test=None, balance=True, max_epochs=1))
    torch.testing.assert_close(seen[0], torch.tensor([2 / 3, 2.0]))


@given(
    st.lists(st.sampled_from("abc"), min_size=6, max_size=80).filter(lambda x: min(Counter(x).values()) > 1),
    st.floats(0.05, 0.6),
)
def test_split_keeps_every_example_once_and_every_class_on_both_sides(labels, share):
    if len(set(labels)) < 2:
        return
    examples = [Example(str(i), label=label) for i, label in enumerate(labels)]
    train, dev = split_off(examples, task_of(examples), share)
    assert sorted(int(e.text) for e in train + dev) == list(range(len(labels)))
    assert {e.label for e in train} == {e.label for e in dev} == set(labels)
    again = split_off(examples, task_of(examples), share)
    assert (train, dev) == again


def test_of_very_many_examples_no_more_are_split_off_than_judge_well(monkeypatch):
    monkeypatch.setattr(splits, "_MOST_SPLIT_OFF", 20)
    few = [Example(str(n), label="ab"[n % 2]) for n in range(100)]
    assert len(split_off(few, task_of(few), 0.2)[1]) == 20
    many = [Example(str(n // 2), label="ab"[n // 2 % 2]) for n in range(1000)]  # each text is there twice
    train, dev = split_off(many, task_of(many), 0.2)
    assert Counter(example.label for example in dev) == {"a": 10, "b": 10}
    assert not {example.text for example in train} & {example.text for example in dev}


@pytest.mark.parametrize(
    ("given", "sizes"), [({"dev": None}, (8, 2)), ({}, (10, 20)), ({"dev": None, "max_train_rows": 99}, (32, 8))]
)
def test_a_sample_is_all_that_is_learned_beside_a_development_file(arguments, given, sizes):
    found = read_splits(replace(arguments, **{"max_train_rows": 10, **given}))
    assert (len(found.train), len(found.dev)) == sizes


def test_a_test_is_held_out_of_all_rows(arguments):
    found = read_splits(replace(arguments, dev=None, test=None, max_train_rows=10), hold_out=True)
    assert (len(found.train), len(found.dev), len(found.test)) == (8, 2, 8)


def test_a_class_of_one_stays_whole():
    examples = [Example("x", label="a"), Example("y", label="a"), Example("z", label="b")]
    train, dev = split_off(examples, task_of(examples), 0.2)
    assert ({example.label for example in train}, [example.label for example in dev]) == ({"a", "b"}, ["a"])
    with pytest.raises(BortError, match=r"have 2 examples, too few to split some off; give a --dev file"):
        split_off(examples[1:], task_of(examples), 0.2)


def test_what_is_asked_for_is_not_what_was_given(arguments, tmp_path):
    """Of two rows none can be held out, though development data are at hand."""
    (tmp_path / "t.csv").write_text("text,label\na,x\nc,y\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), dev=str(tmp_path / "t.csv"), test=None)
    with pytest.raises(BortError, match=r"have 2 examples, .* give --test, or --method plain"):
        read_splits(given, hold_out=True)
    assert len(read_splits(given).train) == 2


def test_labels_of_another_program_are_no_other_classes(arguments, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,0\nb,1\n")
    (tmp_path / "d.csv").write_text("text,label\na,0.0\nc,1.0\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), dev=str(tmp_path / "d.csv"), test=None)
    found = read_splits(given)
    assert [example.label for example in found.dev] == ["0", "1"]
    assert found.check.conflicts == found.check.look_alikes == ()


def test_with_named_classes_the_training_data_are_named_alike(arguments, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,0\nb,1\n")
    (tmp_path / "d.csv").write_text("text,label\na,0.0\nc,1.0\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), dev=str(tmp_path / "d.csv"), test=None)
    found = read_splits(replace(given, classes=["0.0", "1.0"]))
    assert [example.label for example in found.train] == ["0.0", "1.0"]
    assert found.check.conflicts == found.check.look_alikes == ()


def test_one_text_is_too_few_to_train_on(arguments, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,cat\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), classes=["cat", "other"])
    with pytest.raises(BortError, match=r"t.csv: there must be at least 2 examples to train on; there is only 1"):
        read_splits(given)


def test_numbers_with_a_point_are_said_to_be_amounts(arguments, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text;label\na;1.1\nb;1.2\nc;2.10\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), dev=str(tmp_path / "t.csv"), test=None, delimiter=";")
    assert read_splits(given).task.kind == "regression"
    said = " ".join(capsys.readouterr().err.split())
    assert "labels such as 1.1 are taken for amounts; --kind classification takes them for class names" in said
    assert read_splits(replace(given, kind="classification")).task.names == ("1.1", "1.2", "2.10")


def test_decimal_commas_are_no_classes_unless_asked_for(arguments, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("text;label\na;3\nb;0,5\nc;3,5\nd;1.5\ne;0\nf;5\n")
    given = replace(arguments, train=str(tmp_path / "t.csv"), dev=str(tmp_path / "t.csv"), test=None)
    rule = r"t.csv:3: column 'label': value '0,5': a number must be written with a decimal point, as 3.5; --kind class"
    with pytest.raises(BortError, match=rule):
        read_splits(given)
    with pytest.raises(BortError, match=r"t.csv:3: .*'0,5': a label must be a finite number, written with a decimal"):
        read_splits(replace(given, kind="regression"))
    assert "3,5" in read_splits(replace(given, kind="classification")).task.names
    assert read_splits(replace(given, label_separator=",")).task.names == ("0", "1.5", "3", "5")
    assert "label-separator" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": [0.0]}, "learning-rates"),
        ({"batch_sizes": []}, "batch-sizes"),
        ({"warmups": [1.0]}, "warmups"),
        ({"batch_sizes": [0]}, "batch-sizes"),
        ({"max_epochs": 0}, "max-epochs"),
        ({"patience": 0}, "patience"),
        ({"eval_steps": 0}, "eval-steps"),
        ({"max_length": 2}, "max-length"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [0, 1, 0]}, "seeds: value 0: must not be given twice"),
        ({"learning_rates": [1e-3, 0.001]}, "learning-rates: value 0.001: must not be given twice"),
        ({"train": "/nosuch.csv"}, "no such file"),
        ({"model": "nosuch"}, "hub name"),
        ({"metric": "pearson"}, "metric"),
        ({"kind": "regression"}, "finite number"),
    ],
)
def test_bad_settings(arguments, change, message):
    with pytest.raises(BortError, match=message):
        finetune(replace(arguments, **change))


@pytest.mark.parametrize("method", ["plain", "head"])
@pytest.mark.parametrize("setting", ["teacher", "teacher_command", "unlabelled", "pool", "generator", "as_published"])
def test_what_only_agora_uses_is_refused(arguments, world, method, setting):
    with pytest.raises(BortError, match=f"{flag(setting)}: --method {method} does not use it: leave it out, or give"):
        finetune(replace(arguments, method=method, **{setting: True if setting == "as_published" else world.train}))
    assert not Path(arguments.out).exists()


@pytest.mark.parametrize("method", ["plain", "head"])
def test_a_function_that_only_agora_asks_is_refused(arguments, method):
    with pytest.raises(BortError, match=f"--method: value '{method}': does not use a teacher"):
        bort.finetune(replace(arguments, method=method), teacher=lambda texts: ["x"] * len(texts))


def test_unknown_label_in_dev_names_its_line_before_anything_is_trained(arguments, tmp_path):
    file = tmp_path / "dev.jsonl"
    file.write_text('{"text": "a", "label": "cat"}\n{"text": "b", "label": "cot"}\n')
    with pytest.raises(BortError, match=r"dev.jsonl:2: .*'cot'.*did you mean 'cat'"):
        finetune(replace(arguments, dev=str(file)))
    assert not Path(arguments.out).exists()


def test_pairs_are_not_mixed_with_single_texts(arguments, world):
    with pytest.raises(BortError, match="text_b"):
        finetune(replace(arguments, train=world.pairs, dev=world.dev))


def test_a_class_without_a_training_example(arguments, tmp_path):
    """Named by --labels, it takes part: the model has an output for it, and answers of it count as wrong or right."""
    file = tmp_path / "dev.jsonl"
    file.write_text('{"text": "a cat", "label": "cat"}\n{"text": "b", "label": "dog"}\n')
    settings = replace(arguments, dev=str(file), test=str(file), max_epochs=1, balance=True)
    with pytest.raises(BortError, match="'dog'"):
        finetune(settings)
    metrics = finetune(replace(settings, classes=["cat", "dog", "other"]))
    assert metrics["labels"] == ["cat", "dog", "other"]
    assert AutoModelForSequenceClassification.from_pretrained(arguments.out).config.num_labels == 3
    with pytest.raises(BortError, match="must be one of 'cat', 'dog'"):
        finetune(replace(settings, classes=["cat", "dog"]))


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab")), min_size=12, max_size=60))
def test_copies_of_a_text_are_split_off_together(rows):
    if len({(text, label) for text, label in rows}) < 6 or len({label for _, label in rows}) < 2:
        return
    looks = ["text {}", "TEXT  {}"]
    examples = [Example(looks[n % 2].format(text), label=label) for n, (text, label) in enumerate(rows)]
    train, dev = split_off(examples, task_of(examples), 0.2)
    assert len(train) + len(dev) == len(examples)
    assert not {fold_text(e.text) for e in train} & {fold_text(e.text) for e in dev}
    assert {e.label for e in train} == {"a", "b"}


def test_pairs_and_choices_are_copies_only_if_all_their_texts_are():
    pairs = [Example("q", f"answer {n}", label) for n in range(10) for label in "ab"]
    train, dev = split_off(pairs, task_of(pairs), 0.2)
    assert not {e.text_b for e in train} & {e.text_b for e in dev}
    choices = [Example("q", None, str(n % 2), choices=(f"x {n}", "y")) for n in range(10)]
    train, dev = split_off(choices, Classification(("0", "1"), "accuracy", choices=True), 0.2)
    assert (len(train), len(dev)) == (8, 2)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcd")), min_size=3, max_size=30))
@example(rows=[(2, "d"), (3, "b"), (4, "c"), (2, "c"), (5, "a"), (4, "b"), (0, "c"), (2, "b"), (0, "d"), (3, "a")])
def test_no_class_that_two_texts_have_is_split_off_whole(rows):
    if len({text for text, _ in rows}) < 3 or len({label for _, label in rows}) < 2:
        return
    for several in (False, True):
        labels: dict[str, set[str]] = {}
        for text, label in rows:
            labels.setdefault(str(text), set()).add(label)
        examples = [Example(str(text), label=label) for text, label in rows]
        if several:
            examples = [Example(text, label=tuple(sorted(those))) for text, those in labels.items()]
        try:
            train, dev = split_off(examples, task_of(examples), 0.2)
        except BortError:  # too few to split some off
            continue
        assert dev
        assert len(train) + len(dev) == len(examples)
        left = {label for example in train for label in example.label}
        assert left >= {label for _, label in rows if sum(label in those for those in labels.values()) > 1}


def test_a_label_beside_a_rarer_one_of_each_text_is_not_split_off_whole():
    examples = [Example(str(n), label=label) for n, label in enumerate(["cz", "az", "bz", "a", "c", "b"])]
    examples = [replace(each, label=tuple(each.label)) for each in examples]
    train, dev = split_off(examples, task_of(examples), 0.2)
    for part in (train, dev):
        assert "z" in {label for each in part for label in each.label}


@pytest.mark.parametrize("place", range(11))
def test_a_text_with_very_many_copies_is_not_split_off(place):
    rare = [Example(f"other {n}", label="other") for n in range(10)]
    others = [*rare[:place], *[Example("Thanks!", label="other")] * 60, *rare[place:]]
    examples = [*others, *(Example(f"damage {n}", label="damage") for n in range(30))]
    train, dev = split_off(examples, task_of(examples), 0.2)
    assert Counter(each.label for each in dev) == {"other": 2, "damage": 6}
    assert Counter(each.text for each in train)["Thanks!"] == 60


def test_of_texts_with_very_many_copies_the_rarest_is_split_off():
    examples = [*[Example("x", label="a")] * 9, *[Example("y", label="a")] * 5, Example("z", label="b")]
    assert [each.text for each in split_off(examples, task_of(examples), 0.2)[1]] == ["y"] * 5


def test_without_copies_the_share_of_each_class_is_the_first_of_a_permutation():
    """So a run of an earlier version goes on with its development data."""
    labels = np.random.default_rng(1).choice(["a", "b", "c"], 150, p=[0.6, 0.3, 0.1]).tolist()
    examples = [Example(str(n), label=label) for n, label in enumerate(labels)]
    rng, chosen = np.random.default_rng(0), set()
    for label in dict.fromkeys(labels):
        members = [n for n, each in enumerate(labels) if each == label]
        chosen.update(rng.permutation(members)[: round(0.2 * len(members))].tolist())
    assert [int(each.text) for each in split_off(examples, task_of(examples), 0.2)[1]] == sorted(chosen)


def test_of_one_text_no_copy_is_split_off():
    examples = [Example("x", label=label) for label in "aab"]
    with pytest.raises(BortError, match="have 3 examples with 1 different text, too few"):
        split_off(examples, task_of(examples), 0.2)
