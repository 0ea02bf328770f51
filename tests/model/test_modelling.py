"""The model computes what `transformers` computes, and what it does otherwise is what the original code did."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional
from transformers import BertForMaskedLM, BertForMultipleChoice, BertForSequenceClassification

from bort.model.checkpoints import load, save
from bort.model.config import IGNORED
from bort.model.modelling import (
    BortForMaskedLM,
    BortForMultipleChoice,
    BortForSequenceClassification,
    masked_positions,
)

TOLERANCE = {"atol": 1e-6, "rtol": 1e-5}


def randomised(model, seed: int = 0):
    """Weights large enough for every part to show in the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


def batch(config, *, rows: int = 3, length: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids without padding, and labels at about a third of the positions."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, config.vocab_size, (rows, length), generator=generator)
    chosen = torch.rand(ids.shape, generator=generator) < 0.3
    assert chosen.any()
    return ids, torch.where(chosen, ids, IGNORED)


@pytest.fixture
def one_eps(tiny_config):
    """The configuration with one eps everywhere, as the library has it."""
    del tiny_config.mlm_layer_norm_eps
    return tiny_config


def test_only_the_masked_positions_are_decoded(tiny_config):
    model = randomised(BortForMaskedLM(tiny_config))
    ids, labels = batch(tiny_config)
    full = model(input_ids=ids).logits
    assert full.shape == (*ids.shape, tiny_config.vocab_size)
    masked = model(input_ids=ids, labels=labels)
    assert masked.logits.shape == (int((labels != IGNORED).sum()), tiny_config.vocab_size)
    torch.testing.assert_close(masked.logits, full[labels != IGNORED], **TOLERANCE)
    expected = functional.cross_entropy(full.reshape(-1, tiny_config.vocab_size), labels.reshape(-1))
    torch.testing.assert_close(masked.loss, expected, **TOLERANCE)


def test_loss_and_gradient_are_the_librarys(one_eps):
    ours, theirs = BortForMaskedLM(one_eps), BertForMaskedLM(one_eps)
    randomised(ours)
    theirs.load_state_dict(ours.state_dict())
    ids, labels = batch(one_eps)
    losses = [model.eval()(input_ids=ids, labels=labels).loss for model in (ours, theirs)]
    torch.testing.assert_close(*losses, **TOLERANCE)
    for loss in losses:
        loss.backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if "pooler" not in name:
            torch.testing.assert_close(parameter.grad, theirs_by_name[name].grad, atol=1e-5, rtol=1e-4)


def test_positions_choose_what_is_decoded(tiny_config):
    model = randomised(BortForMaskedLM(tiny_config))
    ids, labels = batch(tiny_config)
    full = model(input_ids=ids).logits.reshape(-1, tiny_config.vocab_size)
    positions = torch.tensor([30, 0, 7, 7])
    output = model(input_ids=ids, positions=positions)
    assert output.loss is None
    torch.testing.assert_close(output.logits, full[positions], **TOLERANCE)
    both = model(input_ids=ids, labels=labels, positions=torch.arange(labels.numel()))
    torch.testing.assert_close(both.loss, model(input_ids=ids, labels=labels).loss, **TOLERANCE)
    unlabelled = torch.nonzero(labels.reshape(-1) == IGNORED).squeeze(1)
    assert model(input_ids=ids, labels=labels, positions=unlabelled).loss == 0.0


def test_masked_positions_count_through_the_batch():
    labels = torch.tensor([[IGNORED, 5, IGNORED], [0, IGNORED, 9]])
    assert masked_positions(labels).tolist() == [1, 3, 5]


def test_a_batch_without_a_masked_position_costs_nothing(tiny_config):
    model = BortForMaskedLM(tiny_config).train()
    ids, labels = batch(tiny_config)
    loss = model(input_ids=ids, labels=torch.full_like(labels, IGNORED)).loss
    assert loss.item() == 0.0
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_the_head_has_its_own_eps(tiny_config):
    model = randomised(BortForMaskedLM(tiny_config))
    head = model.cls.predictions.transform
    assert (head.LayerNorm.eps, model.bert.encoder.layer[0].output.LayerNorm.eps) == (1e-12, 1e-5)
    # Activations this small drown in an eps of 1e-5.
    hidden = torch.randn(4, tiny_config.hidden_size)
    with torch.no_grad():
        head.dense.weight.mul_(1e-3)
        head.dense.bias.mul_(1e-3)
        activated = functional.gelu(head.dense(hidden))
        norm = head.LayerNorm
        expected = functional.layer_norm(activated, norm.normalized_shape, norm.weight, norm.bias, eps=1e-12)
        other = functional.layer_norm(activated, norm.normalized_shape, norm.weight, norm.bias, eps=1e-5)
        torch.testing.assert_close(head(hidden), expected, **TOLERANCE)
        assert (head(hidden) - other).abs().max() > 0.1


@pytest.mark.parametrize("absent", ["missing", "null"])
def test_the_head_takes_the_encoders_eps_where_none_is_named(tiny_config, absent):
    if absent == "missing":
        del tiny_config.mlm_layer_norm_eps
    else:
        tiny_config.mlm_layer_norm_eps = None
    tiny_config.layer_norm_eps = 3e-7
    assert BortForMaskedLM(tiny_config).cls.predictions.transform.LayerNorm.eps == 3e-7


def test_the_projection_is_the_word_embedding(tiny_config, tiny_tokenizer, tmp_path):
    model = BortForMaskedLM(tiny_config)
    save(model, tiny_tokenizer, tmp_path / "model")
    for tied in (model, load(BortForMaskedLM, tmp_path / "model")):
        words = tied.get_input_embeddings().weight
        assert tied.cls.predictions.decoder.weight is words
        ids, labels = batch(tiny_config)
        tied(input_ids=ids, labels=labels).loss.backward()
        unseen = [number for number in range(tiny_config.vocab_size) if number not in set(ids.reshape(-1).tolist())]
        assert torch.count_nonzero(words.grad[unseen]) > 0  # by way of the projection alone


def test_positions_are_counted_from_zero(tiny_config):
    model = randomised(BortForMaskedLM(tiny_config))
    ids, _ = batch(tiny_config, length=tiny_config.max_position_embeddings)
    counted = torch.arange(ids.shape[1]).expand_as(ids)
    torch.testing.assert_close(model(input_ids=ids).logits, model(input_ids=ids, position_ids=counted).logits)


def test_padding_changes_nothing(tiny_config):
    model = randomised(BortForMaskedLM(tiny_config))
    ids, _ = batch(tiny_config)
    padded = functional.pad(ids, (0, 5), value=tiny_config.pad_token_id)
    attention = functional.pad(torch.ones_like(ids), (0, 5))
    logits = model(input_ids=padded, attention_mask=attention).logits[:, : ids.shape[1]]
    torch.testing.assert_close(logits, model(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs", "labels"),
    [
        (BortForSequenceClassification, BertForSequenceClassification, 3),
        (BortForSequenceClassification, BertForSequenceClassification, 1),
        (BortForMultipleChoice, BertForMultipleChoice, None),
    ],
)
def test_heads_equal_the_librarys_in_eval(tiny_config, ours, theirs, labels):
    if labels is not None:
        tiny_config.num_labels = labels
    mine = randomised(ours(tiny_config))
    other = theirs(tiny_config).eval()
    other.load_state_dict(mine.state_dict())  # strict: the names are the same, too
    ids, _ = batch(tiny_config, rows=6)
    if labels is None:
        ids = ids.reshape(2, 3, -1)
    logits = mine(input_ids=ids).logits
    assert logits.shape == ((2, 3) if labels is None else (6, labels))
    torch.testing.assert_close(logits, other(input_ids=ids).logits, **TOLERANCE)


HEADS = [
    (BortForSequenceClassification, BertForSequenceClassification),
    (BortForMultipleChoice, BertForMultipleChoice),
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("ours", "theirs"), HEADS)
def test_computing_the_last_layer_for_the_first_token_alone_changes_no_answer_and_no_gradient(
    tiny_config, ours, theirs, attention
):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.0
    tiny_config._attn_implementation = attention
    mine = randomised(ours(tiny_config))
    other = theirs(tiny_config)
    other.load_state_dict(mine.state_dict())
    ids, _ = batch(tiny_config, rows=6)
    padding = torch.ones_like(ids)
    padding[0, 5:] = padding[3, 9:] = 0
    if ours is BortForMultipleChoice:
        ids, padding = ids.reshape(2, 3, -1), padding.reshape(2, 3, -1)
    labels = torch.zeros(len(ids), dtype=torch.long)
    losses = [model.train()(input_ids=ids, attention_mask=padding, labels=labels).loss for model in (mine, other)]
    torch.testing.assert_close(losses[0], losses[1], **TOLERANCE)
    for loss in losses:
        loss.backward()
    theirs_by_name = dict(other.named_parameters())
    compared = 0
    for name, parameter in mine.named_parameters():
        if name.endswith("key.bias"):  # attention does not depend on it: what is there is rounding
            continue
        torch.testing.assert_close(parameter.grad, theirs_by_name[name].grad, atol=1e-5, rtol=1e-4, msg=name)
        compared += int(parameter.grad.abs().max() > 0)
    assert compared > 20


def test_the_last_layer_does_not_compute_what_nobody_reads(tiny_config):
    model = randomised(BortForSequenceClassification(tiny_config))
    ids, _ = batch(tiny_config)
    shapes: dict[str, tuple[int, ...]] = {}
    last = model.bert.encoder.layer[-1]
    for name in ("attention.self.query", "attention.self.key", "intermediate.dense", "output.dense"):
        last.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: shapes.update({name: tuple(output.shape[:2])})
        )
    model(input_ids=ids)
    assert shapes.pop("attention.self.key") == ids.shape
    assert {*shapes.values()} == {(len(ids), 1)}


@pytest.mark.parametrize("by_config", [False, True])
def test_hidden_states_and_attentions_are_those_of_all_tokens(tiny_config, by_config):
    tiny_config._attn_implementation = "eager"
    mine = randomised(BortForSequenceClassification(tiny_config))
    other = BertForSequenceClassification(tiny_config).eval()
    other.load_state_dict(mine.state_dict())
    asked = {"output_hidden_states": True, "output_attentions": True}
    if by_config:
        mine.config.update(asked)
    ids, _ = batch(tiny_config)
    found, expected = mine(input_ids=ids, **({} if by_config else asked)), other(input_ids=ids, **asked)
    assert len(found.hidden_states) == tiny_config.num_hidden_layers + 1
    assert len(found.attentions) == tiny_config.num_hidden_layers
    for one, two in zip(
        found.hidden_states + found.attentions, expected.hidden_states + expected.attentions, strict=True
    ):
        torch.testing.assert_close(one, two, **TOLERANCE)
    assert mine.bert(input_ids=ids).last_hidden_state.shape == (*ids.shape, tiny_config.hidden_size)


def test_the_head_drops_out_before_and_after_its_tanh_layer(tiny_config):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.0
    tiny_config.classifier_dropout = 0.5
    model = randomised(BortForSequenceClassification(tiny_config)).train()
    hidden = torch.ones(1, 1, tiny_config.hidden_size)
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(torch.eye(tiny_config.hidden_size))
        model.bert.pooler.dense.bias.zero_()
        pooled = model.bert.pooler(hidden)
    # Half of the ones are dropped, the others doubled to make up for it.
    assert {round(value, 4) for value in pooled.flatten().tolist()} == {0.0, 0.964}
    assert model.dropout.p == 0.5
    model.bert.pooler.eval()
    torch.testing.assert_close(model.bert.pooler(hidden), torch.tanh(torch.ones(1, tiny_config.hidden_size)))


_OPEN_WITHOUT_US = """
import json, sys
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
folder, ids = sys.argv[1], torch.tensor(json.loads(sys.argv[2]))
answers = {"model_types": []}
for name, cls in {"mlm": AutoModelForMaskedLM, "encoder": AutoModel, "cls": AutoModelForSequenceClassification}.items():
    model, report = cls.from_pretrained(
        f"{folder}/{'mlm' if name == 'encoder' else name}", output_loading_info=True,
        **({"add_pooling_layer": False} if name == "encoder" else {}),
    )
    assert not report["missing_keys"], report
    answers["model_types"].append(type(model).__name__)
    answers[name] = model.eval()(input_ids=ids)[0].tolist()
assert not [name for name in sys.modules if name.partition(".")[0] == "bort"]
print(json.dumps(answers))
"""


def test_transformers_opens_what_we_save_without_us(one_eps, tiny_tokenizer, python, tmp_path):
    mlm = randomised(BortForMaskedLM(one_eps))
    one_eps.num_labels = 3
    classifier = randomised(BortForSequenceClassification(one_eps), seed=2)
    save(mlm, tiny_tokenizer, tmp_path / "mlm")
    save(classifier, tiny_tokenizer, tmp_path / "cls", extra="kept")
    assert json.loads((tmp_path / "mlm" / "config.json").read_text())["model_type"] == "bert"
    assert json.loads((tmp_path / "cls" / "config.json").read_text())["extra"] == "kept"
    ids, _ = batch(one_eps)
    answers = json.loads(python(_OPEN_WITHOUT_US, str(tmp_path), json.dumps(ids.tolist())).stdout)
    assert answers["model_types"] == ["BertForMaskedLM", "BertModel", "BertForSequenceClassification"]
    with torch.no_grad():
        expected = {
            "mlm": mlm(input_ids=ids).logits,
            "encoder": mlm.bert(input_ids=ids).last_hidden_state,
            "cls": classifier(input_ids=ids).logits,
        }
    for name, tensor in expected.items():
        torch.testing.assert_close(torch.tensor(answers[name]), tensor, **TOLERANCE)
