"""A linear head inside a bi-encoder, which reads the two texts of a pair separately."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.data.batches import token_budget_batches
from bort.finetuning.linear_head import Floats, finite
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.model.devices import INFERENCE_TOKENS
from bort.predict.classifiers import tensors
from bort.predict.encoding import TokenizedExamples
from bort.progress import in_batches

APART = "apart"
"""Name of the features that a bi-encoder's head reads."""


@torch.no_grad()
def read_pairs(
    model: BortBiEncoderForSequenceClassification, encoded: TokenizedExamples, pad_token_id: int
) -> NDArray[np.float32]:
    """Features of pairs from a frozen bi-encoder. *Shape:* (pairs, features).

    Args:
        model: The bi-encoder; its head is not used.
        encoded: Pairs, each joined into one sequence.
        pad_token_id: Id of padding.
    """
    training = model.training
    model.eval()
    found = np.zeros((len(encoded), model.classifier.in_features), np.float32)
    tokens = INFERENCE_TOKENS[model.device.type]
    batches = token_budget_batches(encoded.lengths, max_tokens=tokens, max_rows=512)
    for batch in in_batches("the frozen encoder reads pairs", batches):
        found[batch] = model.features(**tensors(encoded.batch(batch, pad_token_id), model.device)).cpu().numpy()
    model.train(training)
    return found


def put_pair_head(model: BortBiEncoderForSequenceClassification, weight: Floats, bias: Floats) -> None:
    """Set a bi-encoder's head to a linear map of its features.

    Args:
        model: The bi-encoder.
        weight: *Shape:* (outputs, features).
        bias: *Shape:* (outputs,).
    """
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(finite(bias)))


def can_read_apart(model: PreTrainedModel, inputs: list[str]) -> bool:
    """Whether an encoder's joined pairs can be split again: those of BERT can, by their token type ids.

    Args:
        model: Any classifier on the encoder.
        inputs: The tokenizer's `model_input_names`.
    """
    return model.config.model_type == "bert" and "token_type_ids" in inputs
