"""Models that both engines export: they answer as PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.predict.manifest import read_manifest
from bort.predict.predictor import Predictor
from bort.tasks.classification import Classification


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def test_a_plain_bert_with_kinds_of_tokens(engine, teacher_folder, tmp_path, sentences):
    """A classifier of the hub's kind: WordPiece, two kinds of tokens, another eps."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(0)
    BertForSequenceClassification.from_pretrained(teacher_folder, num_labels=4).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    exporter = Exporter(str(tmp_path / "model"), engine)
    exporter.write(tmp_path / "out", None)
    assert exporter.check(tmp_path / "out") < 1e-4
    examples = [Example(first, second) for first, second in zip(sentences[:20], sentences[20:40], strict=True)]
    examples += [Example(text) for text in sentences[:20]]
    ours, theirs = Predictor(str(tmp_path / "out")), Predictor(exporter.name)
    assert read_manifest(tmp_path / "out").inputs == ("input_ids", "attention_mask", "token_type_ids")
    np.testing.assert_allclose(ours.logits(examples), theirs.logits(examples), atol=1e-4)


def test_multiple_choice(engine, world, tiny_tokenizer, tmp_path, sentences):
    import torch

    from bort.predict.classifiers import new_classifier, save_classifier

    torch.manual_seed(0)
    task = Classification(("0", "1", "2"), "accuracy", choices=True)
    save_classifier(new_classifier(world.encoder, task), tiny_tokenizer, tmp_path / "model", 32)
    (tmp_path / "out").mkdir()
    exporter = Exporter(str(tmp_path / "model"), engine)
    exporter.write(tmp_path / "out", None)
    assert exporter.check(tmp_path / "out") < 1e-4
    examples = [Example(text, choices=tuple(sentences[i : i + 3])) for i, text in enumerate(sentences[:20])]
    ours, theirs = Predictor(str(tmp_path / "out")), Predictor(str(tmp_path / "model"))
    np.testing.assert_allclose(ours.logits(examples), theirs.logits(examples), atol=1e-4)
    assert ours.logits(examples[:1]).shape == (1, 3)
    with pytest.raises(BortError, match="chooses between texts"):
        ours.predict(["a"])
    with pytest.raises(BortError, match="must have 3 choices"):
        ours.logits([*examples, Example("a", choices=("b",))])
