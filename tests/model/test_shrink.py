"""A smaller encoder inherits: all of it computes the same, idle parts go first, and what is no part is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

from bort.errors import BortError
from bort.model.checkpoints import load, save
from bort.model.modelling import BortForMaskedLM
from bort.model.shrink import SubShape, shrink, spread
from bort.model.shrink_scores import Scores, even_scores, first_order_scores, weight_scores

SHAPE = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
ENCODERS = {
    "bert": (BertModel, BertConfig),
    "roberta": (RobertaModel, RobertaConfig),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig),
}
HEADED = {
    "bert": (BertForMaskedLM, BertConfig),
    "bort": (BortForMaskedLM, BertConfig),
    "roberta": (RobertaForMaskedLM, RobertaConfig),
    "xlm-roberta": (XLMRobertaForMaskedLM, XLMRobertaConfig),
}


def made(model_class, config_class, **changes):
    """A random model in which no weight is at its neutral start."""
    torch.manual_seed(0)
    model = model_class(config_class(**{**SHAPE, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def batch():
    """Three texts, two of them padded; no token is the padding of either family."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[2, 4:] = 0
    return ids, mask


def read(model, batch, what="last_hidden_state"):
    """What a model makes of the real tokens; padding is the model's own. *Shape:* (tokens, …)."""
    ids, mask = batch
    with torch.inference_mode():
        out = model(input_ids=ids.masked_fill(mask == 0, model.config.pad_token_id), attention_mask=mask)
    return out[what][mask.bool()]


@pytest.mark.parametrize("family", ENCODERS)
def test_the_whole_computes_the_same(family, batch):
    model = made(*ENCODERS[family])
    whole = shrink(model)
    assert type(whole) is BertModel
    assert torch.allclose(read(whole, batch), read(model, batch), atol=1e-5)


@pytest.mark.parametrize("family", HEADED)
def test_the_whole_says_the_same(family, batch):
    model = made(*HEADED[family])
    whole = shrink(model)
    assert isinstance(whole, BertForMaskedLM)
    assert isinstance(whole, BortForMaskedLM) == (family == "bort")
    assert torch.allclose(read(whole, batch, "logits"), read(model, batch, "logits"), atol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_whole_vocabulary_in_another_order_computes_the_same(family, batch):
    model = made(*ENCODERS[family])
    order = np.random.default_rng(0).permutation(60)
    place = torch.from_numpy(np.argsort(order))
    ids, mask = batch
    assert torch.allclose(read(shrink(model, kept=order), (place[ids], mask)), read(model, batch), atol=1e-5)


def test_ids_of_special_tokens_follow_a_cut_vocabulary():
    model = made(RobertaForMaskedLM, RobertaConfig)
    small = shrink(model, kept=np.array([1, 0, 3, 7, 9]))
    assert (small.config.pad_token_id, small.config.bos_token_id, small.config.eos_token_id) == (0, 1, None)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    assert small.cls.predictions.bias.shape == (5,)


def test_layers_stay_whole(batch):
    model = made(BertModel, BertConfig)
    small = shrink(model, SubShape(layers=(0, 3)))
    model.encoder.layer = nn.ModuleList([model.encoder.layer[0], model.encoder.layer[3]])
    assert torch.allclose(read(small, batch), read(model, batch), atol=1e-6)


@pytest.mark.parametrize(
    ("whole", "part", "numbers"), [(6, 3, [0, 2, 5]), (12, 12, list(range(12))), (12, 1, [11]), (2, 2, [0, 1])]
)
def test_layers_are_spread(whole, part, numbers):
    assert spread(whole, part) == numbers


@pytest.mark.parametrize(
    "shape",
    [
        SubShape(layers=2),
        SubShape(intermediate=20),
        SubShape(heads=2),
        SubShape(hidden=16),
        SubShape(hidden=16, heads=2),
        SubShape(layers=(1, 2), heads=1, intermediate=5, hidden=8),
        SubShape(heads=4, hidden=12),
    ],
)
@pytest.mark.parametrize("model_class", [RobertaModel, RobertaForMaskedLM])
def test_each_part_has_the_asked_shape_and_opens_again(shape, model_class, tmp_path, tiny_tokenizer, batch):
    model = made(model_class, RobertaConfig)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = shrink(model, shape, kept=np.arange(30))
    config = small.config
    assert config.model_type == "bert"
    assert config.hidden_size == (shape.hidden or 32)
    assert config.num_attention_heads == (shape.heads or 4)
    assert config.intermediate_size == (shape.intermediate or 48)
    assert config.vocab_size == 30
    save(small, tiny_tokenizer, tmp_path / "small")
    again = load(type(small), tmp_path / "small")
    ids = (batch[0] // 2, batch[1])
    what = "logits" if hasattr(small, "cls") else "last_hidden_state"
    assert torch.equal(read(again, ids, what), read(small, ids, what))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "memory is shared"


def test_parts_that_do_nothing_go_first(batch):
    """With the idle heads, neurons and dimensions known, the rest computes the same."""
    model = made(BertModel, BertConfig)
    with torch.no_grad():
        for number, layer in enumerate(model.encoder.layer):
            layer.output.dense.weight[:, number % 3 :: 3] = 0
    small = shrink(model, SubShape(intermediate=32))
    assert torch.allclose(read(small, batch), read(model, batch), atol=1e-5)
    batches = [{"input_ids": batch[0], "attention_mask": batch[1]}]
    small = shrink(model, SubShape(intermediate=32), scores=first_order_scores(model, batches))
    assert torch.allclose(read(small, batch), read(model, batch), atol=1e-5)


def test_scores_find_the_idle_head(batch):
    model = made(BertModel, BertConfig)
    idle = (2, 0, 3, 1)
    with torch.no_grad():
        for head, layer in zip(idle, model.encoder.layer, strict=True):
            layer.attention.output.dense.weight[:, 8 * head : 8 * head + 8] = 0
    by_batch = first_order_scores(model, [{"input_ids": batch[0], "attention_mask": batch[1]}])
    for scores in (weight_scores(model), by_batch):
        assert scores.heads.argmin(1).tolist() == list(idle)
        assert [set(range(4)) - set(scores.best_heads(n, 3).tolist()) for n in range(4)] == [{head} for head in idle]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_first_order_scores_leave_no_hook(batch):
    model = made(BertModel, BertConfig).train()
    first_order_scores(model, [{"input_ids": batch[0], "attention_mask": batch[1]}])
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_narrower_heads_keep_what_attention_of_low_rank_computes(batch):
    """Heads whose products have rank 4 lose nothing when they become 4 wide."""
    model = made(BertModel, BertConfig)
    with torch.no_grad():
        for layer in model.encoder.layer:
            own = layer.attention.self
            for part in (own.query, own.key, own.value):
                weight, bias = part.weight.view(4, 8, 32), part.bias.view(4, 8)
                weight[:, 4:] = bias[:, 4:] = 0
    small = shrink(model, SubShape(hidden=16), scores=even_scores(model.config))
    dims = even_scores(model.config).best_hidden(16)
    layer, old = small.encoder.layer[0], model.encoder.layer[0]
    x, y = torch.randn(2, 16), torch.randn(2, 16)
    for head in range(4):
        rows, old_rows = slice(4 * head, 4 * head + 4), slice(8 * head, 8 * head + 8)

        def scored(attention, rows, inputs, width, x=x, y=y):
            q = x @ attention.query.weight[rows][:, inputs].T + attention.query.bias[rows]
            k = y @ attention.key.weight[rows][:, inputs].T + attention.key.bias[rows]
            return q @ k.T / width**0.5

        new = scored(layer.attention.self, rows, torch.arange(16), 4)
        assert torch.allclose(new, scored(old.attention.self, old_rows, dims, 8), atol=1e-4)
        value = x @ layer.attention.self.value.weight[rows].T + layer.attention.self.value.bias[rows]
        old_value = x @ old.attention.self.value.weight[old_rows][:, dims].T + old.attention.self.value.bias[old_rows]
        new_out = value @ layer.attention.output.dense.weight[:, rows].T
        assert torch.allclose(new_out, old_value @ old.attention.output.dense.weight[dims][:, old_rows].T, atol=1e-4)


def test_wider_heads_join_equal_ones_without_loss(batch):
    model = made(BertModel, BertConfig)
    with torch.no_grad():
        for layer in model.encoder.layer:
            for part in (layer.attention.self.query, layer.attention.self.key):
                part.weight.view(2, 2, 8, 32)[:, 1] = part.weight.view(2, 2, 8, 32)[:, 0]
                part.bias.view(2, 2, 8)[:, 1] = part.bias.view(2, 2, 8)[:, 0]
    assert torch.allclose(read(shrink(model, SubShape(heads=2)), batch), read(model, batch), atol=1e-5)


def test_the_precision_stays():
    small = shrink(made(BertModel, BertConfig).to(torch.bfloat16), SubShape(hidden=16))
    assert {parameter.dtype for parameter in small.parameters()} == {torch.bfloat16}


def test_an_encoder_without_pooler_stays_without():
    torch.manual_seed(0)
    bare = BertModel(BertConfig(**SHAPE), add_pooling_layer=False)
    assert shrink(bare).pooler is None
    assert shrink(made(BertForSequenceClassification, BertConfig)).pooler is not None


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        (SubShape(layers=5), "layers must be 1 to 4"),
        (SubShape(layers=0), "layers must be 1 to 4"),
        (SubShape(layers=(2, 1)), "ascending"),
        (SubShape(layers=(0, 4)), "0 to 3"),
        (SubShape(layers=()), "ascending"),
        (SubShape(heads=5), "heads must be 1 to 4"),
        (SubShape(heads=3), "divisible"),
        (SubShape(hidden=64), "hidden must be 1 to 32"),
        (SubShape(hidden=24, heads=2), "multiple"),
        (SubShape(intermediate=49), "intermediate must be 1 to 48"),
    ],
)
def test_what_is_no_part_is_refused(shape, rule):
    with pytest.raises(BortError, match=rule):
        shrink(made(BertModel, BertConfig), shape)


@pytest.mark.parametrize("kept", [np.array([60]), np.array([-1]), np.array([], dtype=np.int64), np.zeros((2, 2), int)])
def test_rows_that_are_not_there_are_refused(kept):
    with pytest.raises(BortError, match="rows of the word embedding"):
        shrink(made(BertModel, BertConfig), kept=kept)


def test_another_family_is_refused_with_a_reason():
    with pytest.raises(BortError, match="bias by distance"):
        shrink(MPNetModel(MPNetConfig(**SHAPE)))
    with pytest.raises(BortError, match="absolute positions"):
        shrink(made(BertModel, BertConfig, is_decoder=True))
    with pytest.raises(BortError, match="'hidden_act': value 'relu': must be gelu"):
        shrink(made(RobertaForMaskedLM, RobertaConfig, hidden_act="relu"))
    assert shrink(made(RobertaModel, RobertaConfig, hidden_act="relu")).config.hidden_act == "relu"


def test_scores_of_another_encoder_are_refused():
    model = made(BertModel, BertConfig)
    scores = weight_scores(model)
    with pytest.raises(BortError, match="shapes"):
        shrink(model, scores=Scores(scores.heads[:2], scores.neurons, scores.hidden))
    with pytest.raises(BortError, match="at least one batch"):
        first_order_scores(model, [])
