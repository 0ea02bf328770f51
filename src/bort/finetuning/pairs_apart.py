"""A linear head inside a bi-encoder, which reads the two texts of a pair apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.data.batches import token_budget_batches
from bort.finetuning.linear_head import Floats
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.model.devices import INFERENCE_TOKENS
from bort.predict.classifiers import tensors
from bort.predict.encoding import TokenizedExamples

APART = "apart"
"""The name of what a bi-encoder's head reads."""
_CERTAIN = 30.0
"""The logit of a label that all examples have; below 0 that of one without an example."""


@torch.no_grad()
def read_pairs(
    model: BortBiEncoderForSequenceClassification, encoded: TokenizedExamples, pad_token_id: int
) -> NDArray[np.float32]:
    """What a frozen bi-encoder says of pairs. *Shape:* (pairs, features).

    Args:
        model: Its head is not asked.
        encoded: Pairs, joined.
        pad_token_id: Id of padding.
    """
    training = model.training
    model.eval()
    found = np.zeros((len(encoded), model.classifier.in_features), np.float32)
    tokens = INFERENCE_TOKENS[model.device.type]
    for batch in token_budget_batches(encoded.lengths, max_tokens=tokens, max_rows=512):
        found[batch] = model.features(**tensors(encoded.batch(batch, pad_token_id), model.device)).cpu().numpy()
    model.train(training)
    return found


def put_pair_head(model: BortBiEncoderForSequenceClassification, weight: Floats, bias: Floats) -> None:
    """Let a bi-encoder answer with a linear map of its features.

    Args:
        model: The bi-encoder.
        weight: *Shape:* (outputs, features).
        bias: *Shape:* (outputs,).
    """
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(np.nan_to_num(bias, posinf=_CERTAIN, neginf=-_CERTAIN)))


def can_read_apart(model: PreTrainedModel, inputs: list[str]) -> bool:
    """Whether an encoder's rows of pairs can be taken apart: BERT's, whose tokens say which text they belong to.

    Args:
        model: Any classifier on the encoder.
        inputs: What the tokenizer gives to the model.
    """
    return model.config.model_type == "bert" and "token_type_ids" in inputs
