"""The benchmark: its loads, its turns, its arithmetic, and one small run from the command line to the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DistilBertConfig

from bort.__main__ import main
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.model.config import Preset, configure
from bort.predict.classifiers import load_classifier, new_classifier, save_classifier
from bort.predict.costs import MOST_TOKENS
from bort.speed.contestants import ENGINES, Contestant, Model, usual_engines
from bort.speed.measure import first_answer, measure
from bort.speed.models import CONFIGS, padded_tokenizer, save_random
from bort.speed.race import Spread, described, fixed, like_for_like, natural, race, take_turns
from bort.speed.report import speed_report
from bort.tasks.classification import Classification

pytest.importorskip("onnxruntime")


def test_rivals_have_their_published_shapes():
    shapes = {
        name: (c.num_hidden_layers, c.num_attention_heads, c.hidden_size, c.vocab_size) for name, c in CONFIGS.items()
    }
    assert shapes["bert-large"] == (24, 16, 1024, 30_522)
    assert shapes["distilbert"] == (6, 12, 768, 30_522)
    assert shapes["bort-nano"] == (3, 12, 384, 17_344)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_model_with_random_weights_is_a_classifier_of_that_shape(tmp_path, kind):
    small = (
        DistilBertConfig(n_layers=2, n_heads=2, dim=16, hidden_dim=24, vocab_size=17_400, pad_token_id=1)
        if kind == "distilbert"
        else configure(Preset(2, 2, 16, 24), 17_400)
    )
    save_random(small, tmp_path)
    model, task = load_classifier(str(tmp_path))
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size) == (16, 2, 17_400)
    assert task.outputs == 2
    assert Model(str(tmp_path), tmp_path / "work").vocab_size == 17_400


@settings(max_examples=5, deadline=None)
@given(st.integers(17_344, 30_000))
def test_a_padded_tokenizer_is_as_large_as_asked(vocab_size):
    made = padded_tokenizer(vocab_size)
    assert len(made) == vocab_size
    assert made.tokenize("the old baker, it's said") == ["the", "old", "baker", ",", "it", "'", "s", "said"]


@given(st.integers(1, 300))
def test_natural_texts_are_asked_once_each(texts):
    load = natural(texts)
    assert sorted(index for batch in load.batches for index in batch) == list(range(texts))
    assert all(4 <= length <= 224 for length in load.lengths)
    assert all(len(batch) * max(load.lengths[i] for i in batch) <= MOST_TOKENS for batch in load.batches)
    encoded = load.tokens_of(100, types=True)
    assert encoded.lengths == list(load.lengths)
    assert max(max(ids) for ids in encoded.columns["input_ids"]) < 100
    assert [len(kinds) for kinds in encoded.columns["token_type_ids"]] == encoded.lengths


def test_natural_lengths_are_those_that_are_said():
    lengths = natural(10_000).lengths
    assert np.median(lengths) == pytest.approx(25, abs=1)
    assert np.quantile(lengths, 0.95) == pytest.approx(70, abs=3)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 4))
def test_all_take_turns(names, rounds):
    order: list[int] = []
    ended: list[int] = []
    functions = {name: lambda name=name: order.append(name) for name in range(names)}
    seconds = take_turns(functions, rounds, ended.append)
    assert ended == list(range(names)) * rounds
    turns = [name for place, name in enumerate(order) if not place or order[place - 1] != name]
    assert turns == (list(range(names)) * rounds if names > 1 else [0])
    assert {name: len(found) for name, found in seconds.items()} == dict.fromkeys(range(names), rounds)


def test_ratios_are_of_medians(tmp_path):
    def contestant(model: str, engine: str) -> Contestant:
        return Contestant(model, engine, tmp_path, lambda load, vocab_size: lambda: None)

    pairs = [("bort", "torch-eager"), ("bort", "onnxruntime-int8"), ("bert-large", "torch-eager")]
    results = race([contestant(*pair) for pair in pairs], fixed(2, 8), 3, 100)
    assert [(r.model, r.engine) for r in results] == pairs
    own, fast, large = (
        r.__class__(**{**vars(r), "seconds": s})
        for r, s in zip(results, [(2.0, 3.0, 4.0), (1.0, 1.0, 2.0), (30.0, 36.0, 30.0)], strict=True)
    )
    assert own.times_as_fast(large) == Spread(10.0, 7.5, 15.0)
    rows = described([own, fast, large])
    assert [row["times bert-large torch-eager"]["median"] for row in rows] == [10, 30, 1]
    assert rows[0]["ms"] == {"median": 3000, "low": 2000, "high": 4000}
    assert rows[0]["tokens_per_second"] == pytest.approx(16 / 3)
    same = like_for_like([own, fast, large], "bort")
    assert [(row["engine"], row["times"]["bert-large"]["median"]) for row in same] == [("torch-eager", 10)]


def test_the_usual_engines():
    usual = usual_engines()
    assert {"torch-eager", "torch-sdpa", "onnxruntime-fp32", "onnxruntime-int8"} <= set(usual) <= set(ENGINES)


def test_a_process_that_cannot_answer(tmp_path):
    with pytest.raises(BortError, match="a new process could not answer"):
        first_answer(tmp_path / "nothing", 1)


def test_a_first_answer_of_an_exported_encoder(teacher_folder, tmp_path):
    Exporter(teacher_folder).write(tmp_path, None)
    assert first_answer(tmp_path, 1).seconds > 0


def test_first_answers_need_no_loads(teacher_folder, tmp_path):
    Exporter(teacher_folder).write(tmp_path, None)
    found = measure([str(tmp_path)], [], engines=["onnxruntime-fp32"], loads=[], threads=1, fresh_rounds=1)
    assert not found["results"]
    assert found["first_answers"]


def test_a_model_of_choices_is_refused(world, tiny_tokenizer, tmp_path, capsys):
    task = Classification(("first", "second"), "accuracy", choices=True)
    save_classifier(new_classifier(world.encoder, task), tiny_tokenizer, tmp_path / "model", 24)
    (tmp_path / "exported").mkdir()
    Exporter(str(tmp_path / "model")).write(tmp_path / "exported", None)
    for folder in ("model", "exported"):
        assert main(["benchmark", "--model", str(tmp_path / folder), "--alone", "--sequence-length", "4"]) == 2
        assert "chooses between texts" in capsys.readouterr().err


@pytest.mark.slow
def test_a_first_answer_takes_time_and_memory(classifier):
    first = first_answer(classifier, 1)
    assert 0.2 < first.seconds < 120
    assert 50e6 < first.peak_bytes < 2e9


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--model", "no-such"], "is neither a folder nor one of"),
        (["--engines", "tpu"], "must be one of torch-eager"),
        (["--sequence_length", "513"], "from 1 to 512"),
        (["--rounds", "0"], "must be at least 1"),
    ],
)
def test_bad_input(words, rule, capsys):
    assert main(["benchmark", *words]) == 2
    assert rule in capsys.readouterr().err


def test_texts_longer_than_a_models_positions_are_refused(classifier, tmp_path, capsys):
    exported = Model(str(classifier), tmp_path).export(Exporter(str(classifier)), "onnxruntime-fp32", 1)
    for folder, engines in ((str(classifier), ["--engines", "torch-sdpa"]), (str(exported), [])):
        words = ["--model", folder, "--alone", *engines, "--threads", "1", "--fresh_rounds", "0"]
        assert main(["benchmark", *words, "--sequence_length", "8", "65"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        rule = "reads at most 64 tokens, and --sequence-length or --mix asks for 65"
        assert said == f"bort benchmark: {folder}: {rule}"
        assert main(["benchmark", *words, "--sequence_length", "64", "--rounds", "1"]) == 0


def test_from_the_command_line_to_the_page(classifier, tmp_path, capsys):
    exporter = Model(str(classifier), tmp_path)
    exported = exporter.export(Exporter(str(classifier)), "onnxruntime-int8", 1)
    words = ["--model", str(classifier), str(exported), "--alone", "--sequence_length", "4", "8", "--rounds", "1"]
    words += ["--mix", "--texts", "4", "--mix_rounds", "1", "--threads", "1", "--fresh_rounds", "0"]
    words += ["--engines", "torch-eager", "onnxruntime-fp32", "--out", str(tmp_path / "out")]
    assert main(["benchmark", *words]) == 0
    shown = capsys.readouterr().out
    assert "onnxruntime-fp32" in shown
    assert "onnxruntime-int8" in shown, "an exported folder comes in its own engine"
    notes = shown.splitlines()[-2:]
    assert notes[-1].startswith("Not measured: torch-sdpa, torch-bf16, openvino-fp32"), "what was measured is not here"
    figures = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert [row["load"] for row in figures["results"]].count("4 texts of natural lengths") == 3
    assert (tmp_path / "out/report.html").read_text("utf-8") == speed_report(figures).text()


def test_an_exported_model_is_asked_for_ids_that_it_has(classifier, tmp_path, capsys):
    exported = Model(str(classifier), tmp_path).export(Exporter(str(classifier)), "onnxruntime-fp32", 1)
    opened = Model(str(exported), tmp_path / "work")
    assert opened.vocab_size <= Model(str(classifier), tmp_path / "work").vocab_size < 1000
    words = ["--model", str(exported), "--alone", "--sequence_length", "64", "--rounds", "1", "--fresh_rounds", "0"]
    assert main(["benchmark", *words, "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Not measured" not in shown, "an exported folder has one engine"
    assert "x bert-large" not in shown, "nothing is compared with it"
    assert main(["benchmark", *words, "--engines", "torch-eager"]) == 2
    assert "--engines: value ['torch-eager']: has no effect on exported folders" in capsys.readouterr().err
