"""Pairs are read together or apart: what is asked for, or what suits the student better."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

import bort
from bort.data.tables.examples import Example, read_examples
from bort.errors import BortError
from bort.finetuning import student_head as module
from bort.finetuning.pairs_apart import APART
from bort.finetuning.splits import read_splits
from bort.finetuning.student_head import fit_better_reading
from bort.predict.plain_engine import open_plain
from bort.predict.predictor import Predictor
from bort.predict.torch_engine import TorchEngine

WORDS = ("ship", "music", "doctor", "garden", "engine", "river", "teacher", "window", "coffee", "winter", "horse")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pairs of texts of which the second is about the same thing, or not."""
    rng, folder, found = random.Random(0), tmp_path_factory.mktemp("pairs"), {}
    for part, count in (("train", 60), ("dev", 40), ("test", 40)):
        rows = []
        for number in range(count):
            one, other = rng.sample(WORDS, 2)
            same = number % 2 == 0
            second = f"there is a {one if same else other}"
            rows.append({"text": f"we talk about the {one}", "text_b": second, "label": "yes" if same else "no"})
        found[part] = folder / f"{part}.jsonl"
        found[part].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {part: str(file) for part, file in found.items()}


def settings(files, out, **more):
    return bort.FinetuneArguments(**files, model="bort-nano", out=str(out), method="head", **more)


def head_of(arguments):
    data = read_splits(arguments)
    return data, fit_better_reading(
        lambda apart: data.fitter(arguments, bi_encoder=apart), arguments.pairs, data.train, data.dev
    )


def test_the_folder_answers_as_the_head_and_is_opened_by_others(files, tmp_path):
    arguments = settings(files, tmp_path, pairs="bi-encoder")
    data, head = head_of(arguments)
    assert head.held
    assert head.whole.pooling == APART
    assert "read apart" not in head.described
    head.fitter.save(head.classifier(), tmp_path / "m")
    expected = np.exp(head.logits(data.test))
    with Predictor(str(tmp_path / "m")) as predictor:
        found = predictor.predict_proba([(e.text, e.text_b) for e in data.test])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    vectors = bort.Encoder(str(tmp_path / "m")).encode([e.text for e in data.test])
    np.testing.assert_allclose(
        vectors, bort.Encoder("bort-nano").encode([e.text for e in data.test], normalize=True), atol=1e-5
    )
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu").encode([e.text for e in data.test])
    np.testing.assert_allclose(theirs, vectors, atol=1e-5)


def test_a_reading_is_changed_only_for_a_clearly_better_one(files, tmp_path, monkeypatch, capsys):
    arguments = settings(files, tmp_path)
    monkeypatch.setattr(module, "_clearly_better", lambda apart, together, targets: apart.pooling == APART)
    _, head = head_of(arguments)
    assert head.fitter.bi_encoder
    assert "the two texts of a pair are read apart: accuracy" in capsys.readouterr().err
    monkeypatch.setattr(module, "_clearly_better", lambda *asked: False)
    assert not head_of(arguments)[1].fitter.bi_encoder
    monkeypatch.setattr(module, "_clearly_better", lambda apart, together, targets: apart.pooling == APART)
    monkeypatch.setattr(module, "_MOST_READ_APART", 99)
    assert not head_of(arguments)[1].fitter.bi_encoder
    arguments.pairs = "cross-encoder"
    monkeypatch.undo()
    assert not head_of(arguments)[1].fitter.bi_encoder


def test_single_texts_cannot_be_read_apart(world, tmp_path):
    with pytest.raises(BortError, match="needs pairs of texts") as error:
        bort.finetune(world.finetuning(tmp_path / "m", method="plain", pairs="bi-encoder"))
    assert error.value.setting == "pairs"


@pytest.mark.parametrize("method", ["plain", "head"])
def test_a_run_leaves_a_bi_encoder_behind(files, tmp_path, method):
    arguments = settings(files, tmp_path / "m", pairs="bi-encoder", max_epochs=2, learning_rates=[1e-4], averaged=1)
    arguments.method = method
    result = bort.finetune(arguments)
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config["architectures"] == ["BortBiEncoderForSequenceClassification"]
    assert result.metrics["test"]["accuracy"] > 0.8
    with Predictor(str(tmp_path / "m")) as predictor:
        assert predictor.predict([("we talk about the river", "there is a river")])[0].label == "yes"
        with pytest.warns(UserWarning, match="was fine-tuned on pairs"):
            predictor.predict("a lone text")
        assert predictor.unlike_training == 1


def test_a_bi_encoder_teaches(files, tmp_path):
    bort.finetune(settings(files, tmp_path / "teacher", pairs="bi-encoder"))
    arguments = settings(files, tmp_path / "m", teacher=str(tmp_path / "teacher"), unlabelled=files["test"])
    arguments.method, arguments.max_epochs, arguments.averaged = "agora", 1, 1
    result = bort.finetune(arguments)
    assert result.metrics["teacher"]["dev"]["accuracy"] > 0.8


def test_a_bi_encoder_is_exported(files, tmp_path):
    bort.finetune(settings(files, tmp_path / "m", pairs="bi-encoder"))
    # What writes the graph compares it with PyTorch, rows without a first text among them.
    export = {"model": str(tmp_path / "m"), "gate": files["dev"], "calibrate": files["train"], "max_drop": 20.0}
    pairs = [("we talk about the river", "there is a river"), ("we talk about the river " * 9, "there is a ship")]
    expected = Predictor(str(tmp_path / "m"))
    for precision, near in (("fp32", 1e-4), ("int8", 0.2)):
        bort.export(bort.ExportArguments(**export, out=str(tmp_path / precision), precision=precision))
        found = Predictor(str(tmp_path / precision))
        np.testing.assert_allclose(found.predict_proba(pairs), expected.predict_proba(pairs), atol=near)
        alone = [found.predict_proba([pair])[0] for pair in pairs]
        np.testing.assert_allclose(alone, found.predict_proba(pairs), atol=0 if precision == "int8" else 1e-5)


def test_a_pairs_company_does_not_matter(files, tmp_path):
    """Pairs of equal length share a batch, wherever the first text ends."""
    bort.finetune(settings(files, tmp_path / "m", pairs="bi-encoder"))
    export = {"model": str(tmp_path / "m"), "gate": files["dev"], "calibrate": files["train"], "max_drop": 20.0}
    bort.export(bort.ExportArguments(**export, out=str(tmp_path / "int8"), precision="int8"))
    words = ["we", "talk", "about", "the", "river", "and", "there", "is", "a", "ship"] * 4
    pairs = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    found = Predictor(str(tmp_path / "int8"), threads=2)
    examples = [Example(*pair) for pair in pairs]
    alone = np.concatenate([found.logits([example]) for example in examples])
    np.testing.assert_array_equal(found.logits(examples), alone)


def test_a_bi_encoder_answers_without_pytorch_as_with_it(files, tmp_path):
    bort.finetune(settings(files, tmp_path / "m", pairs="bi-encoder"))
    plain = open_plain(str(tmp_path / "m"))
    assert plain is not None
    torch = TorchEngine(str(tmp_path / "m"))
    examples = read_examples(files["test"])
    np.testing.assert_allclose(plain.run(plain.encode(examples)), torch.run(torch.encode(examples)), atol=2e-3)


def test_openvino_takes_no_bi_encoder(files, tmp_path):
    pytest.importorskip("openvino")
    bort.finetune(settings(files, tmp_path / "m", pairs="bi-encoder"))
    with pytest.raises(BortError, match="can be exported to ONNX Runtime, not to OpenVINO"):
        bort.export(bort.ExportArguments(model=str(tmp_path / "m"), out=str(tmp_path / "e"), engine="openvino"))
