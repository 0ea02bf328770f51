"""What `bort pretrain --plan` says adds up, and leaves nothing behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bort
from bort.errors import BortError
from bort.pretraining import measure
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.plan import known_teacher, plan


@pytest.fixture
def arguments(world) -> PretrainArguments:
    return PretrainArguments(
        architecture=world.architecture,
        teacher=world.encoder,
        max_steps=1000,
        batch_size=4,
        accumulate=8,
        sequence_length=32,
        precision="fp32",
        plan=True,
    )


def test_adds_up(arguments, world, weights):
    made = plan(arguments)
    assert made["tokens_per_step"] == 4 * 8 * 32
    assert made["tokens"] == 1000 * made["tokens_per_step"]
    assert made["tokens_per_second"] == pytest.approx(made["tokens_per_step"] / made["seconds_per_step"])
    assert made["days"] * 86_400 == pytest.approx(made["tokens"] / made["tokens_per_second"])
    assert made["device_hours"] == pytest.approx(24 * made["days"])
    counted = sum(w.numel() for name, w in weights(world.encoder).items() if "decoder" not in name)
    assert made["student_parameters"] == made["teacher_parameters"] == counted
    assert made["weights_bytes"] == made["gradients_bytes"] == made["teacher_bytes"] == 4 * counted
    assert made["optimizer_bytes"] == 8 * counted
    assert made["measured_batch_size"] == 4
    assert made["peak_bytes"] == made["measured_peak_bytes"] > 0
    assert made["notes"] == []


def test_a_slow_device_measures_fewer_sequences(arguments, monkeypatch):
    monkeypatch.setattr(measure, "_LONGEST_SECONDS", 0.0)
    made = plan(arguments)
    assert made["measured_batch_size"] == 1
    assert "1 x 32 tokens at a time instead of 4 x 32" in made["notes"][0]
    assert made["tokens_per_step"] == 4 * 8 * 32
    assert made["tokens_per_second"] == pytest.approx(made["tokens_per_step"] / made["seconds_per_step"])
    assert made["peak_bytes"] >= made["measured_peak_bytes"]
    monkeypatch.setattr(measure, "_SHORTEST_LENGTH", 16)
    assert plan(arguments)["measured_sequence_length"] == 16


def test_an_unknown_teacher_is_left_out(arguments):
    made = plan(replace(arguments, teacher="nobody/nothing"))
    assert made["teacher_parameters"] == made["teacher_bytes"] == 0
    assert "nobody/nothing" in made["notes"][0]


def test_teachers_that_are_not_measured_are_told(arguments, world):
    cached = plan(replace(arguments, teacher_cache="cache"))
    assert cached["teacher_parameters"] == 0
    assert cached["notes"] == ["the teacher is left out: it reads each row once, before training (--teacher-cache)"]
    embedding = plan(replace(arguments, teacher=None, embedding_teacher=world.encoder))
    assert embedding["notes"] == ["the embedding teacher is left out: the steps of a masked LM were measured"]


def test_the_published_teacher_has_its_size():
    """355 M parameters and a head, as RoBERTa's paper says; nothing is allocated."""
    import torch
    from transformers import RobertaForMaskedLM

    with torch.device("meta"):
        model = RobertaForMaskedLM(known_teacher("FacebookAI/roberta-large"))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 355


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": None, "max_minutes": 3.0}, "--max-steps"),
        ({"max_steps": None}, "--max-steps"),
        ({"batch_size": 0}, "batch-size"),
        ({"sequence_length": 65}, "64 positions"),
        ({"architecture": "nosuch"}, "preset"),
        ({"teacher": "./nosuch"}, "no such folder"),
    ],
)
def test_bad_settings(arguments, change, message):
    with pytest.raises(BortError, match=message):
        plan(replace(arguments, **change))


def test_prints_and_writes_nothing(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = bort.pretrain(arguments).metrics
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("tokens a second (measured, 20 steps)", "days", "288", "GiB"):
        assert words in shown
    assert json.loads(json.dumps(figures))["device_hours"] == figures["device_hours"]
    assert list(Path.cwd().iterdir()) == []


def test_an_embedded_tokenizer_gives_the_vocabulary(arguments, monkeypatch):
    sizes = []
    monkeypatch.setattr("bort.pretraining.plan.measure", lambda _, config, *rest: 1 / sizes.append(config.vocab_size))
    with pytest.raises(TypeError):
        plan(replace(arguments, teacher=None, tokenizer="bort-nano"))
    assert sizes == [len(bort.load_tokenizer("bort-nano"))]


def test_only_a_plan_needs_no_corpus(arguments):
    with pytest.raises(BortError, match="needs --corpus, --tokenizer, --out"):
        bort.pretrain(replace(arguments, plan=False))
