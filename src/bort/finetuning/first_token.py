"""A linear head inside a plain `transformers` classifier, whose own layers read the first token.

BERT's head is Dense, tanh, Dense. Near 0 the tanh is the identity, so any linear map passes through if it is scaled
down before the tanh and up after it. If the mean of all tokens is the better sentence vector, an extra layer writes it
to the first token: with queries of 0, attention is uniform over all tokens, and the mean outweighs the residual.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from bort.data.batches import token_budget_batches
from bort.finetuning.linear_head import Floats, finite
from bort.model.devices import INFERENCE_TOKENS
from bort.predict.classifiers import tensors
from bort.predict.encoding import TokenizedExamples
from bort.progress import in_batches

FIRST, MEAN = "first", "mean"
"""Names of the poolings: the first token's vector, or the mean of all tokens' vectors."""
_MEAN_WEIGHT = 1000.0
"""Weight of the mean relative to the first token's residual; a larger one would overflow in half precision."""
_LINEAR = 1e-3
"""Input of the tanh at which it deviates from the identity by a third of a millionth of the input."""


def holds_heads(model: PreTrainedModel) -> bool:
    """Whether a classifier's head is Dense, tanh, Dense on the first token."""
    return _dense_layers(model) is not None


def holds_means(model: PreTrainedModel) -> bool:
    """Whether a layer can be added that writes the mean of all tokens to the first: for BERT and RoBERTa models."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    parts = ("attention.self.query", "attention.output.LayerNorm", "intermediate.dense", "output.LayerNorm")
    names = {name for name, _ in layers[-1].named_modules()} if layers else set()
    return holds_heads(model) and {*parts} <= names and model.config.model_type in ("bert", "roberta", "xlm-roberta")


@torch.no_grad()
def read_features(
    model: PreTrainedModel, encoded: TokenizedExamples, pad_token_id: int
) -> dict[str, NDArray[np.float32]]:
    """First-token vectors of a frozen encoder, without and with the layer of `with_mean`.

    Args:
        model: A classifier; its head is not used.
        encoded: Texts, or pairs joined into one sequence.
        pad_token_id: Id of padding.

    Returns:
        Vectors for `FIRST` and `MEAN`. *Shape:* (examples, hidden size) each.
    """
    training = model.training
    model.eval()
    size = int(model.config.hidden_size)
    found = {name: np.zeros((len(encoded), size), np.float32) for name in (FIRST, MEAN)}
    tokens = INFERENCE_TOKENS[model.device.type]
    batches = token_budget_batches(encoded.lengths, max_tokens=tokens, max_rows=512)
    for batch in in_batches("the frozen encoder reads texts", batches):
        inputs = tensors(encoded.batch(batch, pad_token_id), model.device)
        hidden = model.base_model(**inputs).last_hidden_state.float()  # (batch, seq, H)
        mask = inputs["attention_mask"][..., None].float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        found[FIRST][batch] = hidden[:, 0].cpu().numpy()
        mixed = nn.functional.layer_norm(_MEAN_WEIGHT * mean + hidden[:, 0], (size,), eps=0.0)
        found[MEAN][batch] = mixed.cpu().numpy()
    model.train(training)
    return found


def with_mean(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a classifier with an extra layer, after which the first token is the layer norm of the mean of all tokens.

    Args:
        model: A classifier for which `holds_means` is true.
    """
    config = copy.deepcopy(model.config)
    config.num_hidden_layers += 1
    if getattr(config, "layer_types", None):
        config.layer_types = [*config.layer_types, config.layer_types[-1]]
    longer: Any = type(model)(config)
    longer.load_state_dict(model.state_dict(), strict=False)
    layer = longer.base_model.encoder.layer[-1]
    own = torch.eye(config.hidden_size)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.attention.self.value.weight.copy_(own)
        layer.attention.output.dense.weight.copy_(_MEAN_WEIGHT * own)
        layer.attention.output.LayerNorm.weight.fill_(1.0)
        layer.output.LayerNorm.weight.fill_(1.0)
    moved: PreTrainedModel = longer.to(model.device).train(model.training)
    return moved


def put_head(
    model: PreTrainedModel, weight: Floats, bias: Floats, features: NDArray[Any], *, reach: float = _LINEAR
) -> None:
    """Set a classifier's head to a linear map of the first token's vector.

    Args:
        model: A classifier for which `holds_heads` is true.
        weight: *Shape:* (outputs, hidden size).
        bias: *Shape:* (outputs,).
        features: First-token vectors of examples, whose largest deviation from the mean sets the scale.
            *Shape:* (examples, hidden size).
        reach: Value to which this deviation is scaled before the tanh: larger is less linear, but easier to train.
    """
    layers = _dense_layers(model)
    assert layers is not None, "the model holds no heads"
    before, after = layers
    centre = features.mean(0, dtype=np.float64)
    scale = reach / (float(np.abs(features - centre).max()) or 1.0)
    constant = finite(bias + weight @ centre)
    with torch.no_grad():
        before.weight.copy_(scale * torch.eye(len(centre)))
        before.bias.copy_(torch.from_numpy(-scale * centre))
        after.weight.copy_(torch.from_numpy(weight / scale))
        after.bias.copy_(torch.from_numpy(constant))


def _dense_layers(model: Any) -> tuple[nn.Linear, nn.Linear] | None:
    """The layers before and after the tanh."""
    pooler = getattr(model.base_model, "pooler", None)  # a bi-encoder has none
    if model.config.model_type == "bert" and pooler and isinstance(getattr(model, "classifier", None), nn.Linear):
        return pooler.dense, model.classifier
    head: Any = getattr(model, "classifier", None)
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") and hasattr(head, "out_proj"):
        return head.dense, head.out_proj
    return None
