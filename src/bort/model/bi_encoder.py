"""A bi-encoder: encodes the two texts of a pair separately, and classifies by a linear layer on their vectors.

A cross-encoder reads a pair as one text. If it has never seen two texts joined, it has much to learn before it can
compare them, more than a few labels teach; a sentence encoder's vectors of single texts can be compared at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bort.model.pair_features import PRODUCT_WEIGHT


class BortBiEncoderForSequenceClassification(BertPreTrainedModel):
    """Mean over each text's tokens, scaled to length 1; `pair_features` of the two; Dense(n).

    It takes the input of a cross-encoder, `[CLS] a [SEP] b [SEP]` with token type ids, and splits it into two texts.
    The encoder's weights have BERT's names, so that sentence-transformers reads the encoder from the same folder.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(4 * config.hidden_size + 1, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """*Shape:* (batch, seq) each -> logits (batch, outputs)."""
        return SequenceClassifierOutput(
            logits=self.classifier(self.features(input_ids, attention_mask, token_type_ids))
        )

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the input of the head. *Shape:* (batch, seq) each -> (batch, 4 H + 1)."""
        whole = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        ids, mask = taken_apart(input_ids, whole, kinds)
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (2 batch, seq, H)
        kept = mask[..., None].float()
        vectors = nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)
        a, b = vectors.chunk(2)
        product = PRODUCT_WEIGHT * (a * b).sum(-1, keepdim=True)
        return torch.cat([a, b, (a - b).abs(), a * b, product], dim=-1)


def taken_apart(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Split joined pairs into rows of single texts: all first texts, then all second ones.

    Args:
        input_ids: `[CLS] a [SEP] b [SEP]`, padded on the right. *Shape:* (batch, seq).
        attention_mask: 1 for tokens. *Shape:* (batch, seq).
        token_type_ids: 1 for the tokens of the second text and its separator. *Shape:* (batch, seq).

    Returns:
        Ids and mask of `[CLS] a [SEP]` and `[CLS] b [SEP]`. *Shape:* (2 batch, longest text) each.
    """
    both, second = attention_mask.sum(1, keepdim=True), (token_type_ids * attention_mask).sum(1, keepdim=True)
    first = (both - second).clamp(min=1)  # [CLS] belongs to the first text, whatever its type
    second = both - first
    place = torch.arange(int(torch.maximum(first, second + 1).max()), device=input_ids.device)[None]
    # The second text follows the first one, whose last token is replaced by [CLS].
    behind = (first - 1 + place).clamp(0, input_ids.shape[1] - 1)
    b = torch.where(place == 0, input_ids[:, :1], input_ids.gather(1, behind))
    a = input_ids[:, : place.shape[1]]
    return torch.cat([a, b]), torch.cat([place < first, place <= second]).to(attention_mask.dtype)
