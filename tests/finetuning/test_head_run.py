"""The linear head of a run: as a row beside the result, as the method, and as what is kept where nothing beats it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from bort.agora.run import finetune
from bort.data.tables.examples import read_examples
from bort.errors import BortError
from bort.finetuning import linear_head
from bort.finetuning.report import finetune_report
from bort.predict.predictor import Predictor


@pytest.fixture
def arguments(world, tmp_path):
    return world.finetuning(tmp_path, method="head")


def right(folder, file):
    examples = read_examples(file)
    answers = Predictor(folder).stream(examples)
    return np.mean([answer.label == example.label for answer, example in zip(answers, examples, strict=True)])


def test_the_method_uses_all_labels_and_shows_what_is_out_of_fold(arguments, world, finetuned_files, page_of_files):
    metrics = finetune(arguments)
    run = Path(arguments.out)
    assert {file.name for file in run.iterdir()} == finetuned_files
    assert metrics == json.loads((run / "metrics.json").read_text("utf-8"))
    labels = metrics["rows"]["train"] + metrics["rows"]["dev"]
    assert metrics["result"] == "head"
    assert metrics["labels_used"] == {"selection": labels, "result": labels}
    assert metrics["linear_head"]["labels_used"] == {
        "dev": metrics["rows"]["train"],
        "out_of_fold": labels,
        "test": labels,
    }
    assert metrics["test"] == metrics["linear_head"]["test"]
    assert right(arguments.out, world.test) == pytest.approx(metrics["test"]["accuracy"])
    # The saved head has learned the development data, the figure has not.
    assert right(arguments.out, world.dev) >= metrics["dev"]["accuracy"]
    page = (run / "report.html").read_text("utf-8")
    assert "Beside a linear head" in page
    assert page == page_of_files(finetune_report, arguments.out, "trial")


def test_the_same_run_gives_the_same_head(arguments, tmp_path, assert_same_weights):
    finetune(arguments)
    finetune(replace(arguments, out=str(tmp_path / "again")))
    assert_same_weights(arguments.out, tmp_path / "again")


def test_only_training_texts_are_told_to_be_cut(arguments, tmp_path, capsys):
    """Development texts, which the head has tokenised, too, do not count."""
    train, dev = tmp_path / "train.csv", tmp_path / "dev.csv"
    rows = [f"text {n} {'word ' * 99 * (n == 0)},{'ab'[n % 2]}" for n in range(8)]
    train.write_text("\n".join(["text,label", *rows, ""]), "utf-8")
    rows = [f"{n} {'word ' * 99},{'ab'[n % 2]}" for n in range(4)]
    dev.write_text("\n".join(["text,label", *rows, ""]), "utf-8")
    finetune(replace(arguments, train=str(train), dev=str(dev), test=None, max_length=32))
    assert "1 of the training texts are longer than 32 tokens and are cut" in " ".join(capsys.readouterr().err.split())


def test_pairs_and_no_development_file(arguments, world):
    metrics = finetune(replace(arguments, train=world.pairs, dev=None, test=None))
    assert metrics["labels_used"]["result"] == 40
    assert {answer.label for answer in Predictor(arguments.out).predict([("a cat", "a cat"), ("a", "b")])} <= {"0", "1"}
    page = Path(arguments.out, "report.html").read_text("utf-8")
    assert "The figures are out of fold" in page


def test_a_classifier_of_another_kind_is_refused(arguments, world, tmp_path, tiny_tokenizer):
    config = DistilBertConfig(vocab_size=400, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=64)
    DistilBertForSequenceClassification(config).save_pretrained(tmp_path / "distil")
    tiny_tokenizer.save_pretrained(tmp_path / "distil")
    with pytest.raises(BortError, match="distilbert has another: give --method plain"):
        finetune(replace(arguments, model=str(tmp_path / "distil")))


def test_what_learns_nothing_loses_to_the_head(arguments, world, capsys):
    plain = replace(arguments, method="plain", learning_rates=[1e-9], max_epochs=1)
    metrics = finetune(plain)
    assert metrics["result"] == "head"
    assert (
        metrics["fine_tuned"]["dev"]["accuracy"]
        <= metrics["dev"]["accuracy"]
        == metrics["linear_head"]["dev"]["accuracy"]
    )
    assert metrics["labels_used"]["selection"] == metrics["rows"]["train"]
    assert right(plain.out, world.test) == pytest.approx(metrics["test"]["accuracy"])
    assert "the head is the result" in capsys.readouterr().err
    assert "Fine-tuning did not beat it" in Path(plain.out, "report.html").read_text("utf-8")


def test_what_learns_more_is_kept_and_stands_beside_the_head(arguments):
    metrics = finetune(replace(arguments, method="plain", keep_better=False, learning_rates=[1e-9], max_epochs=1))
    assert metrics["result"] == "fine-tuned"
    assert {"dev", "out_of_fold", "test", "labels_used"} <= metrics["linear_head"].keys()


@pytest.mark.parametrize(("method", "refit"), [("head", True), ("plain", True), ("plain", False), ("agora", True)])
def test_of_very_many_labels_those_count_that_the_head_has_learned(arguments, monkeypatch, method, refit):
    monkeypatch.setattr(linear_head, "MOST_FITTED", 20)
    settings = replace(arguments, method=method, refit=refit, learning_rates=[1e-9], max_epochs=1, transforms=["swap"])
    metrics = finetune(settings)
    assert metrics["result"] == "head"
    assert metrics["labels_used"]["result"] == 20
    assert len(metrics["train_texts"].split()) == 20
    if method == "agora":
        assert metrics["labels_used"]["teacher"] == 20
