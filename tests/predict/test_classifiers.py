"""Classifiers: a head on any encoder, saved with its labels, opened again here and by the library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BertForSequenceClassification,
    CLIPConfig,
    ConvBertConfig,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    IBertConfig,
    MarianConfig,
    MobileBertConfig,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    XLNetConfig,
)

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.estimators.classifier import BortClassifier
from bort.export.exporter import Exporter
from bort.model.checkpoints import save
from bort.model.modelling import BortForSequenceClassification
from bort.model.sentence_files import PROMPTS
from bort.predict import classifiers
from bort.predict.classifiers import (
    load_classifier,
    new_classifier,
    positions,
    predict_logits,
    save_classifier,
    sees_padding,
)
from bort.predict.encoder import Encoder
from bort.predict.encoding import TokenizedExamples, encode
from bort.predict.predictor import Predictor
from bort.predict.torch_encoder import TorchEncoder
from bort.predict.torch_engine import TorchEngine
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

NAMES = ("no", "yes", "<b>maybe</b>", "LABEL_0", "1")
TASK = Classification(NAMES, "accuracy")


@pytest.fixture
def saved(world, tiny_tokenizer, tmp_path):
    """Folder of a classifier as fine-tuning leaves it, and the model in memory."""
    torch.manual_seed(3)
    model = new_classifier(world.encoder, TASK)
    save_classifier(model, tiny_tokenizer, tmp_path / "model", 24)
    return tmp_path / "model", model


def logits_of(model, tokenizer, texts, length=24) -> np.ndarray:
    return predict_logits(model, encode([Example(text) for text in texts], tokenizer, length), tokenizer.pad_token_id)


def changed(folder: Path, **changes) -> str:
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return str(folder)


# New heads


def test_the_encoder_is_kept_and_the_head_is_new(world):
    torch.manual_seed(0)
    one = new_classifier(world.encoder, TASK)
    torch.manual_seed(0)
    same = new_classifier(world.encoder, TASK)
    other = new_classifier(world.encoder, TASK)
    encoder = load_file(f"{world.encoder}/model.safetensors")
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, same.state_dict()[name])
        if name in encoder and "pooler" not in name:
            assert torch.equal(weights, encoder[name])
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert isinstance(one, BortForSequenceClassification)
    assert one.config.id2label == dict(enumerate(NAMES))
    assert one.config.problem_type == "single_label_classification"
    assert one.dtype == torch.float32


def test_a_head_of_another_width_is_replaced(saved):
    folder, _ = saved
    model = new_classifier(str(folder), Classification(("a", "b"), "accuracy"))
    assert model.classifier.weight.shape[0] == 2
    assert model.config.id2label == {0: "a", 1: "b"}
    model = new_classifier(str(folder), Regression((), "pearson"))
    assert model.classifier.weight.shape[0] == 1
    assert model.config.problem_type == "regression"


def test_a_head_that_the_model_brings_along_is_not_kept(saved):
    """Of the same width too: its outputs stand for other labels, and no seed would change it."""
    folder, before = saved
    task = Classification(("a", "b", "c", "d", "e"), "accuracy")
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        heads.append(new_classifier(str(folder), task))
    assert torch.equal(heads[0].classifier.weight, heads[1].classifier.weight)
    assert not torch.equal(heads[0].classifier.weight, heads[2].classifier.weight)
    assert not torch.equal(heads[0].classifier.weight, before.classifier.weight)
    assert heads[0].classifier.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert not heads[0].classifier.bias.any()
    for name, weights in before.bert.named_parameters():
        assert torch.equal(weights, heads[0].bert.get_parameter(name)), name


# Out and in again


def test_saving_leaves_the_tokenizer_as_it_was(saved, tiny_tokenizer):
    assert tiny_tokenizer.model_max_length == 512
    assert AutoTokenizer.from_pretrained(saved[0]).model_max_length == 24


def test_labels_and_answers_are_saved(saved, tiny_tokenizer, sentences):
    folder, model = saved
    loaded, task = load_classifier(str(folder))
    assert task == TASK
    assert not loaded.training
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 24
    ours = logits_of(model, tiny_tokenizer, sentences[:10])
    np.testing.assert_array_equal(logits_of(loaded, tiny_tokenizer, sentences[:10]), ours)


def test_the_library_opens_it_without_us(saved, tiny_tokenizer, sentences):
    folder, model = saved
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert type(theirs) is BertForSequenceClassification
    assert theirs.config.id2label == dict(enumerate(NAMES))
    assert theirs.config.label2id == {name: number for number, name in enumerate(NAMES)}
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    batch = AutoTokenizer.from_pretrained(folder)(sentences[:6], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**batch).logits.numpy()
    np.testing.assert_allclose(logits, logits_of(model, tiny_tokenizer, sentences[:6]), atol=1e-5)


def test_regressors(world, tiny_tokenizer, tmp_path):
    model = new_classifier(world.encoder, Regression((), "spearman"))
    save_classifier(model, tiny_tokenizer, tmp_path, 24)
    _, task = load_classifier(str(tmp_path))
    assert task == Regression((), "pearson")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.num_labels == 1


# Encoders of other families


def distilbert(vocabulary: int):
    config = DistilBertConfig(
        vocab_size=vocabulary, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40, pad_token_id=1
    )
    return DistilBertForMaskedLM(config), 40


def roberta(vocabulary: int):
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=42,
        pad_token_id=1,
    )
    return RobertaForMaskedLM(config), 40


@pytest.mark.parametrize("family", [distilbert, roberta])
def test_other_families(family, tiny_tokenizer, sentences, tmp_path):
    encoder, length = family(len(tiny_tokenizer))
    save(encoder, tiny_tokenizer, tmp_path / "encoder")
    torch.manual_seed(0)
    model = new_classifier(str(tmp_path / "encoder"), TASK)
    assert positions(model) == length
    save_classifier(model, tiny_tokenizer, tmp_path / "model", 512)
    predictor = Predictor(str(tmp_path / "model"))
    assert (predictor.task, predictor.max_length) == (TASK, length)
    texts = [*sentences[:5], "", "word " * 100]
    logits = predictor.logits([Example(text) for text in texts])
    assert predictor.cut == 1
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    for text, ours in zip(texts, logits, strict=True):
        batch = tiny_tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            np.testing.assert_allclose(theirs(**batch).logits[0].numpy(), ours, atol=1e-5)
    pair = predictor.logits([Example(sentences[0], sentences[1])])
    assert np.isfinite(pair).all()


def t5(vocab_size: int):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    return T5Config(vocab_size=vocab_size, **sizes, pad_token_id=1, decoder_start_token_id=1, eos_token_id=2)


TWO_PARTS = {
    f"{part}_{name}": size
    for part in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
}


def marian(vocab_size: int):
    return MarianConfig(vocab_size=vocab_size, d_model=16, **TWO_PARTS, pad_token_id=1, decoder_start_token_id=1)


def xlnet(vocab_size: int):
    return XLNetConfig(vocab_size=vocab_size, d_model=16, n_layer=1, n_head=2, d_inner=24, pad_token_id=1)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (t5, "is an encoder-decoder; take an encoder"),
        (marian, "value 'marian': is an encoder-decoder; take an encoder"),
        (xlnet, "value 'xlnet': is not supported"),
    ],
)
def test_families_that_are_no_encoders_with_positions_are_refused(family, message, tiny_tokenizer, tmp_path):
    config = family(len(tiny_tokenizer))
    save(AutoModel.from_config(config), tiny_tokenizer, tmp_path)
    for make in (TorchEncoder, lambda folder: new_classifier(folder, TASK)):
        with pytest.raises(BortError, match=message):
            make(str(tmp_path))


def test_a_classifier_may_be_an_encoder_decoder(tiny_tokenizer, tmp_path):
    config = t5(len(tiny_tokenizer))
    config.num_labels = 3
    save(AutoModelForSequenceClassification.from_config(config), tiny_tokenizer, tmp_path)
    assert Predictor(str(tmp_path)).logits([Example("a text")]).shape == (1, 3)


def answers_alone(folder, texts) -> tuple[np.ndarray, np.ndarray]:
    """Logits of texts together, and of each one as transformers gives them."""
    predictor, tokenizer = Predictor(str(folder)), AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        alone = [model(torch.tensor([tokenizer(text).input_ids])).logits[0].numpy() for text in texts]
    return predictor.logits([Example(text) for text in texts]), np.stack(alone)


def mobilebert(vocab_size: int):
    return MobileBertConfig(
        vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        embedding_size=8, true_hidden_size=8, intra_bottleneck_size=8, pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip


def convbert(vocab_size: int):
    return ConvBertConfig(
        vocab_size=vocab_size, hidden_size=16, embedding_size=16, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=24, pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("family", [mobilebert, convbert])
def test_families_that_see_padding_get_none(family, tiny_tokenizer, sentences, tmp_path):
    torch.manual_seed(0)
    config = family(len(tiny_tokenizer))
    config.num_labels = 3
    save(AutoModelForSequenceClassification.from_config(config), tiny_tokenizer, tmp_path)
    together, alone = answers_alone(tmp_path, [*sentences[:6], "a"])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(alone, axis=0).min() > 1e-3, "the answers should differ, or the test says nothing"
    whole = Encoder(str(tmp_path)).encode(sentences[:6])
    each = np.concatenate([Encoder(str(tmp_path)).encode([text]) for text in sentences[:6]])
    np.testing.assert_allclose(whole, each, rtol=1e-4, atol=1e-5)


def test_rounding_of_outputs_near_0_is_no_padding():
    model = SimpleNamespace(config=SimpleNamespace(model_type="new"), device="cpu")
    text = TokenizedExamples({"input_ids": [[0, 5, 2]]})

    def off_by(error: float):
        return lambda batch: torch.tensor([[1e-7 + error * (batch["input_ids"].shape[1] > 3)]])

    assert not sees_padding(model, off_by(1e-6), text, 1, 64)
    assert sees_padding(model, off_by(1e-3), text, 1, 64)


@pytest.mark.parametrize("number", [None, 5])
def test_a_decoder_reads_the_last_token_before_the_tokenizers_padding(number, tiny_tokenizer, sentences, tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, num_labels=3)
    config.pad_token_id = number
    save(AutoModelForSequenceClassification.from_config(config), tiny_tokenizer, tmp_path)
    together, alone = answers_alone(tmp_path, sentences[:5])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_texts_may_have_different_numbers_of_end_tokens(tiny_tokenizer, sentences, tmp_path):
    torch.manual_seed(0)
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = BartConfig(vocab_size=len(tiny_tokenizer), d_model=16, **TWO_PARTS, **tokens, num_labels=3)
    save(AutoModelForSequenceClassification.from_config(config), tiny_tokenizer, tmp_path)
    together, alone = answers_alone(tmp_path, [*sentences[:3], "a </s> b", "c"])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_quantised_embedding_has_rows_and_images_have_none(tiny_tokenizer, tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = IBertConfig(vocab_size=len(tiny_tokenizer), **shape, max_position_embeddings=40, pad_token_id=1)
    save(AutoModel.from_config(config), tiny_tokenizer, tmp_path / "ibert")
    assert Encoder(str(tmp_path / "ibert")).encode("a").shape == (16,)
    text = {"vocab_size": len(tiny_tokenizer), **shape, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**shape, "image_size": 8, "patch_size": 4})
    save(AutoModel.from_config(config), tiny_tokenizer, tmp_path / "clip")
    with pytest.raises(BortError, match="value 'CLIPModel': must be a model of texts"):
        Encoder(str(tmp_path / "clip"))


# Logits


def test_logits_do_not_depend_on_the_batch(saved, tiny_tokenizer, sentences, monkeypatch):
    _, model = saved
    texts = [*sentences[:30], "", "word " * 30, "a"]
    whole = logits_of(model, tiny_tokenizer, texts)
    assert whole.shape == (33, 5)
    assert whole.dtype == np.float32
    for tokens, rows in ((1, 128), (40, 3), (4096, 1)):
        monkeypatch.setattr(classifiers, "INFERENCE_TOKENS", {"cpu": tokens})
        monkeypatch.setattr(classifiers, "_ROWS_PER_BATCH", rows)
        np.testing.assert_allclose(logits_of(model, tiny_tokenizer, texts), whole, atol=1e-5)
    np.testing.assert_allclose(logits_of(model, tiny_tokenizer, texts[::-1]), whole[::-1], atol=1e-5)


def test_logits_leave_the_model_as_it_was(saved, tiny_tokenizer, sentences):
    _, model = saved
    for training in (True, False):
        model.train(training)
        first, second = (logits_of(model, tiny_tokenizer, sentences[:4]) for _ in range(2))
        np.testing.assert_array_equal(first, second, "dropout must be off")
        assert model.training is training
    assert all(weights.grad is None for weights in model.parameters())


def test_logits_of_nothing(saved, tiny_tokenizer):
    assert logits_of(saved[1], tiny_tokenizer, []).shape == (0, 5)


def test_half_precision_gives_single_precision_numbers(saved, tiny_tokenizer, sentences):
    _, model = saved
    encoded = encode([Example(text) for text in sentences[:4]], tiny_tokenizer, 24)
    half = predict_logits(model, encoded, tiny_tokenizer.pad_token_id, bf16=True)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, logits_of(model, tiny_tokenizer, sentences[:4]), atol=0.1)


# Models that do not answer


def test_an_encoder_must_be_fine_tuned_first(world):
    with pytest.raises(BortError, match=r"'BertForMaskedLM': is no classifier; fine-tune it first: bort finetune"):
        load_classifier(world.encoder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "multi_label_classification", "bort_thresholds": [0.5]}, "bort_thresholds.*must map labels"),
        ({"problem_type": "multi_label_classification", "bort_thresholds": {"a": 2}}, "bort_thresholds.*probabilities"),
        ({"problem_type": "regression"}, "problem_type.*one label, several labels, or one number"),
        ({"id2label": {"0": "a", "1": "a", "2": "b", "3": "c", "4": "d"}}, "id2label.*each differently"),
        ({"id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "9": "e"}}, "id2label.*the outputs 0 to 4"),
        ({"id2label": dict(enumerate("ab\ud800de"))}, r"'id2label': value '\\ud800': must be valid Unicode"),
        ({"id2label": ["a"]}, "configuration cannot be read"),
        ({"bort_metric": "rmse"}, "'bort_metric': value 'rmse': must be one of accuracy"),
        ({"architectures": None}, "'architectures': must name the class of a classifier"),
        ({"model_type": "nosuch"}, "configuration cannot be read"),
        ({"hidden_size": "x"}, "hidden_size"),
        ({"hidden_size": 32}, "shapes that config.json gives"),
        ({"num_hidden_layers": 1}, "fewer layers than the weights"),
        ({"num_hidden_layers": -1}, "must not be negative"),
        ({"num_hidden_layers": 3}, "weights of the encoder"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers.*must be at most 1,000"),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit(saved, changes, message):
    folder = changed(saved[0], **changes)
    with pytest.raises(BortError, match=message) as caught:
        load_classifier(folder)
    assert str(caught.value).startswith(folder)


SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize("place", ["config_sentence_transformers.json", "config.json", "older"])
def test_a_cross_encoder_whose_scores_are_a_function_of_the_output_is_refused(regressor, tmp_path, place):
    folder = shutil.copytree(regressor, tmp_path / "m")
    said = {"activation_fn": SIGMOID}
    older = {"sbert_ce_default_activation_function": SIGMOID}
    name = changed(folder, problem_type=None, **(older if place == "older" else {"sentence_transformers": said}))
    if place == "config_sentence_transformers.json":
        name = changed(folder, sentence_transformers=None)
        (folder / place).write_text(json.dumps(said))
    with pytest.raises(BortError, match=f"activation_fn.*{SIGMOID}.*is not applied here"):
        load_classifier(name)
    assert isinstance(load_classifier(changed(folder, problem_type="regression"))[1], Regression)
    identity = "torch.nn.modules.linear.Identity"
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": identity}))
    assert isinstance(load_classifier(changed(folder, problem_type=None))[1], Regression)


def test_a_new_head_forgets_the_function_of_a_cross_encoders_former_one(regressor, tmp_path):
    folder = shutil.copytree(regressor, tmp_path / "m")
    name = changed(
        folder,
        problem_type=None,
        sentence_transformers={"activation_fn": SIGMOID},
        sbert_ce_default_activation_function=SIGMOID,
    )
    config = new_classifier(name, Classification(("a", "b", "c"), "accuracy")).config
    assert not hasattr(config, "sentence_transformers")
    assert not hasattr(config, "sbert_ce_default_activation_function")


def test_a_head_of_bort_ignores_the_function_that_it_once_kept(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "m")
    name = changed(folder, sentence_transformers={"activation_fn": SIGMOID}, bort_metric="accuracy")
    assert isinstance(load_classifier(name)[1], Classification)


@pytest.mark.parametrize(("function", "taken"), [("Sigmoid", False), ("LogSoftmax", False), ("Softmax", True)])
def test_several_outputs_are_probabilities_that_sum_to_1(classifier, tmp_path, function, taken):
    folder = shutil.copytree(classifier, tmp_path / "m")
    (folder / PROMPTS).write_text(json.dumps({"activation_fn": f"torch.nn.modules.activation.{function}"}))
    if taken:
        assert isinstance(load_classifier(str(folder))[1], Classification)
    else:
        with pytest.raises(BortError, match=f"activation_fn.*{function}.*multi_label_classification"):
            load_classifier(str(folder))
    assert isinstance(load_classifier(changed(folder, problem_type="multi_label_classification"))[1], MultiLabel)


@pytest.mark.parametrize(
    ("file", "said", "column"),
    [
        (PROMPTS, {"prompts": {"q": "Q: "}, "default_prompt_name": "q"}, "default_prompt_name"),
        (PROMPTS, {"default_prompt_name": "q"}, "default_prompt_name"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
    ],
    ids=["prompt", "no such prompt", "lower case"],
)
def test_a_cross_encoder_that_changes_texts_is_refused(classifier, tmp_path, file, said, column):
    folder = shutil.copytree(classifier, tmp_path / "m")
    (folder / file).write_text(json.dumps(said))
    for opened in (Predictor, Exporter, BortClassifier.load):
        with pytest.raises(BortError, match=f"{file}: column '{column}'.*is not applied here"):
            opened(str(folder))


def test_a_cross_encoders_length_is_obeyed(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "m")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    assert TorchEngine(str(folder)).max_length == 6


def test_a_cross_encoder_that_changes_no_text_answers(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "m")
    prompts = {"prompts": {"none": "", "q": "Q: "}, "default_prompt_name": "none"}
    (folder / PROMPTS).write_text(json.dumps(prompts))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": False}))
    answers = [Predictor(name).predict_proba(["A cat"]) for name in (str(folder), classifier)]
    np.testing.assert_allclose(*answers, atol=1e-5)


@pytest.mark.parametrize("lost", ["classifier.weight", "classifier.bias", "bert.pooler.dense.weight"])
def test_a_head_is_not_made_up(saved, lost):
    """The library would fill it with random numbers, and the answers with noise."""
    file = saved[0] / "model.safetensors"
    weights = load_file(file)
    del weights[lost]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(BortError, match=f"'{lost}': the weights of a fine-tuned model must all be there; 1 are not"):
        load_classifier(str(saved[0]))


def test_damaged_weights(saved, tmp_path):
    file = saved[0] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BortError, match="cannot be loaded"):
        load_classifier(str(saved[0]))
    shutil.rmtree(saved[0])
    with pytest.raises(BortError, match="no such folder"):
        load_classifier(str(saved[0]))
