"""What the package carries: the demo's data, the embedded model, and the road over both."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

import bort
from bort.__main__ import main
from bort.agora import run as training
from bort.data.tables.examples import read_examples
from bort.errors import BortError
from bort.files import FolderLock
from bort.finetuning.arguments import FinetuneArguments
from bort.model.checkpoints import example_data, locate
from bort.runs import Run


@pytest.fixture(scope="module")
def nano() -> str:
    return locate("bort-nano")


def test_embedded_model_keeps_its_bounds_and_opens_without_us(nano):
    model = AutoModelForMaskedLM.from_pretrained(nano)
    assert sum(p.numel() for p in model.parameters()) <= 12_500_000
    assert (Path(nano) / "model.safetensors").stat().st_size <= 25_000_000
    assert (Path(nano) / "README.md").read_text("utf-8").count("How it was made") == 1


def test_embedded_model_guesses_a_frequent_word(nano):
    """It knows little, but a comma, an article or a preposition it must put where one belongs."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(nano)
    model = bort.BortForMaskedLM.from_pretrained(nano).eval()
    text = "he was born on the 5th of july 1901 in the north [MASK] england."
    inputs = tokenizer(text, return_tensors="pt")
    place = (inputs.input_ids[0] == tokenizer.mask_token_id).nonzero()[:, 0]
    with torch.no_grad():
        logits = model(**inputs, positions=place).logits[0]
    guesses = [tokenizer.decode([i]).strip() for i in logits.topk(10).indices.tolist()]
    assert {"of", "in", ",", "the"} & set(guesses)


def test_embedded_data_are_what_their_readme_says():
    folder = example_data("support")
    parts = {name: read_examples(folder / f"{name}.jsonl") for name in ("train", "dev", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 84, "dev": 140, "test": 210}
    for part in parts.values():
        counts = Counter(example.label for example in part)
        assert len(counts) == 7
        assert len(set(counts.values())) == 1
    texts = [example.text.lower() for part in parts.values() for example in part]
    unlabelled = [e.text.lower() for e in read_examples(folder / "unlabelled.jsonl", labelled=False)]
    assert len(unlabelled) == 200
    assert len(set(texts + unlabelled)) == len(texts) + len(unlabelled)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert "has 434 labelled messages in 7 classes, 210 of them for testing, and 200 unlabelled ones" in readme


def test_demo_goes_the_whole_road(tmp_path, monkeypatch, capsys):
    fit = training.finetune

    def one_epoch(arguments):
        short = {"max_epochs": 1, "final_epochs": 1, "learning_rates": [1e-3], "averaged": 1}
        return fit(dataclasses.replace(arguments, **short))

    monkeypatch.setattr(training, "finetune", one_epoch)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = ("TF-IDF + logistic regression", "linear head", "plain fine-tuning", "Agora", "224 labels and 200 texts")
    for words in (*rows, "New messages", "bort finetune --train"):
        assert words in printed
    assert (out / "report.html").stat().st_size > 100_000
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    told = re.search(r"TF-IDF scores ([\d.]+) %, and a linear head on the encoder .* ([\d.]+) %", readme).groups()
    shown = [re.search(rf"{name}.* ([\d.]+) %", printed)[1] for name in ("TF-IDF", "linear head")]
    assert [*map(float, told)] == pytest.approx([*map(float, shown)], abs=1)  # two messages, on another processor


def test_a_second_demo_replaces_the_first(tmp_path, monkeypatch):
    def stop(arguments):
        raise BortError("stopped here")

    monkeypatch.setattr(training, "finetune", stop)
    out = tmp_path / "demo"
    data = {part: str(example_data("support") / f"{part}.jsonl") for part in ("train", "dev", "test", "unlabelled")}
    Run(out, "finetune", FinetuneArguments(**data, out=str(out)))
    assert main(["demo", "--out", str(out)]) == 2
    assert not [*out.iterdir()]


def test_a_demo_that_runs_is_not_removed(tmp_path, capsys):
    out = tmp_path / "demo"
    data = {part: str(example_data("support") / f"{part}.jsonl") for part in ("train", "dev", "test", "unlabelled")}
    Run(out, "finetune", FinetuneArguments(**data, out=str(out)))
    lock = FolderLock(out)  # as the process that writes it
    assert main(["demo", "--out", str(out)]) == 2
    lock.close()
    assert "another process is writing this demo" in capsys.readouterr().err
    assert (out / "config.yaml").is_file()


def test_a_demo_is_locked_between_its_runs(tmp_path, monkeypatch):
    out, held = tmp_path / "demo", []

    def fit(arguments):
        Run(Path(arguments.out), "finetune", arguments).log("trained")
        with pytest.raises(BlockingIOError):
            FolderLock(out)
        held.append(arguments.out)
        if len(held) == 2:
            raise BortError("stopped here")
        return {}

    monkeypatch.setattr(training, "finetune", fit)
    assert main(["demo", "--out", str(out)]) == 2
    assert held == [str(out), str(out / "plain")]
    FolderLock(out).close()


def test_demo_does_not_remove_another_run(tmp_path, capsys):
    out = tmp_path / "mine"
    Run(out, "finetune", FinetuneArguments(train="mine.csv", out=str(out))).log("trained")
    before = {file: file.read_bytes() for file in out.iterdir()}
    assert main(["demo", "--out", str(out)]) == 2
    assert "holds an earlier run" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_demo_does_not_remove_a_folder_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert "already exists" in capsys.readouterr().err
