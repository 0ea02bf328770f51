"""Export: the graph computes what PyTorch does, in fused operators, and the engine reads it without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.predict.encoding import encode
from bort.predict.graph.bert_graph import BertGraph
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import NAME, is_exported, sha256
from bort.predict.predictor import Predictor
from bort.tasks.classification import Classification

pytest.importorskip("onnxruntime")
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
EXAMPLES = st.lists(st.builds(Example, TEXT, st.none() | TEXT), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def exporter(classifier) -> Exporter:
    return Exporter(classifier)


@pytest.fixture(scope="module")
def fp32(exporter, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fp32")
    exporter.write(folder, None)
    return folder


@pytest.fixture(scope="module")
def pairs_of(exporter, fp32) -> tuple[Predictor, Predictor]:
    return Predictor(exporter.name), Predictor(str(fp32))


@settings(max_examples=40)
@given(EXAMPLES)
def test_fp32_answers_as_pytorch_does(pairs_of, examples):
    theirs, ours = pairs_of
    np.testing.assert_allclose(ours.logits(examples), theirs.logits(examples), atol=1e-4)
    assert ours.cut == theirs.cut


@settings(max_examples=40)
@given(EXAMPLES)
def test_tokens_are_those_of_training(pairs_of, examples):
    theirs, ours = pairs_of
    expected = encode(examples, theirs.engine.tokenizer, theirs.max_length)
    assert ours.engine.encode(examples).columns == expected.columns


@pytest.mark.parametrize("rows", [1, 40, 400])
def test_threads_do_not_change_answers(fp32, sentences, rows):
    """With two, each takes batches of its own."""
    examples = [Example(text) for text in (sentences * 8)[:rows]]
    one, two = (Predictor(str(fp32), threads=threads).logits(examples) for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "gelu_pytorch_tanh"])
def test_other_activations(exporter, tmp_path, activation, tiny_config):
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    tiny_config.hidden_act, tiny_config.num_hidden_layers, tiny_config.initializer_range = activation, 1, 0.5
    torch.manual_seed(0)
    BertForSequenceClassification(tiny_config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(exporter.name).save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    one_layer = Exporter(str(tmp_path / "model"))
    one_layer.write(tmp_path / "out", None)
    assert one_layer.check(tmp_path / "out") < 1e-4


def test_regression(regressor, tmp_path, sentences):
    Exporter(regressor).write(tmp_path, None)
    expected = [answer.label for answer in Predictor(regressor).predict(sentences[:30])]
    assert [a.label for a in Predictor(str(tmp_path)).predict(sentences[:30])] == pytest.approx(expected, abs=1e-4)


def test_one_node_each_for_attention_norm_and_gelu(exporter, tmp_path):
    import onnx

    layers = exporter.form.shape.layers
    for quantization, product in ((None, "MatMul"), (Quantization(), "DynamicQuantizeMatMul")):
        written = BertGraph(exporter.form.shape, exporter.form.weights, quantization)
        written.write(tmp_path / "a.onnx")
        found = written.graph.operators
        assert [node.op_type for node in onnx.load(tmp_path / "a.onnx", load_external_data=False).graph.node] == found
        attention = "Attention" if quantization is None else "QAttention"
        assert found.count(attention) == layers - 1
        assert found.count("MultiHeadAttention") == 1, "the last layer asks for the first token alone"
        assert found.count("LayerNormalization") == 2 * layers + 1
        assert found.count("BiasGelu") == layers
        assert found.count(product) == 3 * layers + 4
        assert not {"Erf", "Softmax", "ReduceMean", "Transpose", "Reshape", "Pow"} & {*found}


@pytest.mark.parametrize("calibrated", [False, True])
def test_int8_is_near_on_a_gentle_model(world, tiny_tokenizer, tmp_path, sentences, calibrated):
    import torch

    from bort.predict.classifiers import new_classifier, save_classifier

    torch.manual_seed(0)
    model = new_classifier(world.encoder, Classification(("a", "b"), "accuracy"))
    save_classifier(model, tiny_tokenizer, tmp_path / "model", 32)
    exporter, examples = Exporter(str(tmp_path / "model")), [Example(text) for text in sentences[:100]]
    (tmp_path / "fp32").mkdir()
    exporter.write(tmp_path / "fp32", None)
    if calibrated:
        exporter.calibrate(tmp_path / "fp32", examples)
    expected = Predictor(exporter.name).logits(examples)
    offs = []
    for number, kept in enumerate([frozenset(), frozenset({"layer.0"}), frozenset(exporter.form.shape.blocks)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert exporter.write(folder, Quantization(kept)).precision == "int8"
        offs.append(float(np.abs(Predictor(str(folder)).logits(examples) - expected).max()))
    assert 1e-6 < offs[0] < 0.1 * np.ptp(expected)
    assert offs[2] < 1e-5, "with every block kept it is the fp32 model"


def test_a_tampered_file_is_not_opened(exporter, tmp_path):
    exporter.write(tmp_path, None)
    assert is_exported(tmp_path)
    for name in [file.name for file in tmp_path.iterdir() if file.name != NAME]:
        file = tmp_path / name
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(BortError, match=f"{name}: is not what was exported"):
            Predictor(str(tmp_path))
        file.unlink()
        with pytest.raises(BortError, match=f"{name}: is named by manifest.json and is not there"):
            Predictor(str(tmp_path))
        file.write_bytes(before)
    Predictor(str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"model.onnx": {', '"../model.onnx": {'),
        ('"max_length": 32', '"max_length": "x"'),
        ('"max_length": 32', '"max_length": 65537'),
        ('"kind": "classification"', '"kind": "code"'),
        ('"kind": "classification"', '"kind": []'),
        ('"metric": "accuracy"', '"metric": []'),
        ('"names": [', '"names": ["\\ud800", '),
        ('"pairs": ', '"no pairs": '),
        ('"cast": ', '"no cast": '),
        ('"engine": "onnxruntime"', '"engine": "pickle"'),
        ('"costs": null', '"costs": {"rows": [1]}'),
        ('"longer": null', '"longer": 1'),
        ('"longer": null', '"longer": {"engine": "openvino", "precision": "fp32", "activations": "", "model": "x"}'),
        ('"prepared": ""', '"prepared": "../x"'),
        ('"from_tokens": 0', '"from_tokens": -1'),
        ('"thresholds": {', '"thresholds": {"no such label": 0.5'),
        ('"thresholds": {', '"thresholds": {"cat": NaN'),
        ('"thresholds": {', '"thresholds": {"cat": "x"'),
        ("{", "["),
    ],
)
def test_a_damaged_manifest(exporter, tmp_path, old, new):
    exporter.write(tmp_path, None)
    file = tmp_path / NAME
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(BortError) as caught:
        Predictor(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_tokenizer_that_panics(exporter, tmp_path):
    exporter.write(tmp_path, None)
    file, manifest = tmp_path / "tokenizer.json", json.loads((tmp_path / NAME).read_text("utf-8"))
    described = json.loads(file.read_text("utf-8"))
    described["post_processor"]["special_tokens"].pop("</s>")
    file.write_text(json.dumps(described), "utf-8")
    manifest["files"][file.name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    (tmp_path / NAME).write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BortError, match=r"tokenizer\.json: is no tokenizer: "):
        Predictor(str(tmp_path))


def test_neither_torch_nor_transformers_is_loaded(fp32, python):
    code = f"""
import sys, bort
answers = bort.Predictor({str(fp32)!r}, threads=1).predict(["The old baker", ("a", "b")] * 300)
assert len(answers) == 600 and answers[0].probabilities
from bort.__main__ import main
main(["predict", "--model", {str(fp32)!r}, "--threads", "1"])
heavy = {{"torch", "transformers", "onnx", "datasets", "sklearn", "scipy", "pandas"}}
print(sorted(heavy & sys.modules.keys()))
"""
    row, heavy = python(code, input="a text\n").stdout.splitlines()
    assert '"prediction"' in row
    assert heavy == "[]"


def test_logits_that_differ_are_noticed(classifier, tmp_path):
    wrong = Exporter(classifier)
    name = "encoder.layer.1.output.dense.bias"
    wrong.form.weights[name] = wrong.form.weights[name] + np.linspace(0, 0.5, 16, dtype=np.float32)
    wrong.write(tmp_path, None)
    with pytest.raises(BortError, match=r"must be within 0\.0001 of PyTorch's"):
        wrong.check(tmp_path)


def test_outputs_that_are_no_numbers_are_noticed(classifier, tmp_path):
    """Of a sliding window, say, that lies wholly in the padding."""
    wrong = Exporter(classifier)
    bias = wrong.form.weights["classifier.bias"].copy()
    bias[0] = np.nan
    wrong.form.weights["classifier.bias"] = bias
    wrong.write(tmp_path, None)
    with pytest.raises(BortError, match="must be within"):
        wrong.check(tmp_path)


def test_the_other_side_of_a_long_text_is_noticed(classifier, tmp_path):
    exporter = Exporter(classifier)
    exporter.write(tmp_path, None)
    assert exporter.check(tmp_path) < 1e-4
    exporter.source.tokenizer.backend_tokenizer.enable_truncation(32, strategy="longest_first", direction="left")
    with pytest.raises(BortError, match="must be within"):
        exporter.check(tmp_path)
