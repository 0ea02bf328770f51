"""The BERT classes of `transformers`, with Bort's differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForSequenceClassification,
)
from transformers.modeling_outputs import MaskedLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertLayer, eager_attention_forward

from bort.model.config import IGNORED
from bort.model.mlm_loss import SoftTargets, linear_cross_entropy, linear_distillation, soft_distance


@dataclass
class BortMaskedLMOutput(MaskedLMOutput):
    """The library's output, plus the two parts of a combined loss. *Shapes:* () each."""

    hard_loss: Tensor | None = None
    soft_loss: Tensor | None = None


class BortForMaskedLM(BertForMaskedLM):
    """BERT with a masked-LM head that has its own LayerNorm eps and can decode only selected positions.

    The head (`decoder.*` of the released code) is Dense(H), GELU, LayerNorm(eps 1e-12), Dense(V) tied to the word
    embedding. Its eps is `config.mlm_layer_norm_eps`, or the encoder's if the checkpoint does not set it.
    The vocabulary projection is most of the work of a small encoder; with 15 % of the positions masked, decoding
    only those does a seventh of it.

    Example:
        >>> import torch
        >>> from bort import architecture
        >>> config = architecture("tiny.json", vocab_size=100)
        >>> model = BortForMaskedLM(config)
        >>> model(torch.tensor([[0, 5, 6, 2]]), positions=torch.tensor([1])).logits.shape
        torch.Size([1, 100])
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        head = self.cls.predictions.transform.LayerNorm
        head.eps = getattr(config, "mlm_layer_norm_eps", None) or config.layer_norm_eps

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        positions: Tensor | None = None,
        loss_only: bool = False,
        soft_targets: SoftTargets | None = None,
        **kwargs: Any,
    ) -> BortMaskedLMOutput:
        """Encode, and decode the requested positions.

        Args:
            input_ids: *Shape:* (batch, seq).
            attention_mask: *Shape:* (batch, seq), 1 for tokens, 0 for padding; None if there is no padding.
            labels: Token ids at masked positions, `IGNORED` elsewhere; only masked positions are decoded, and
                `loss` is their mean cross-entropy. *Shape:* (batch, seq).
            positions: Positions to decode, as indices into the flattened (batch x seq). *Shape:* (positions,).
            loss_only: With labels and without positions, return the loss and no logits, in a fraction of their memory.
            soft_targets: A teacher's distributions at the masked positions; `loss` is then the weighted sum of
                `hard_loss` and `soft_loss`.

        Returns:
            `logits` of *shape* (positions, vocab) if positions or labels are given, else (batch, seq, vocab).

        Example:
            >>> import torch
            >>> from bort import architecture
            >>> config = architecture("tiny.json", vocab_size=100)
            >>> ids = torch.tensor([[0, 5, 6, 2]])
            >>> labels = torch.tensor([[-100, 5, -100, -100]])
            >>> BortForMaskedLM(config)(ids, labels=labels).logits.shape  # one position is masked
            torch.Size([1, 100])
        """
        kwargs.pop("return_dict", None)
        encoded = self.bert(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        hidden = encoded.last_hidden_state  # (batch, seq, H)
        asked = positions is not None
        if positions is None and labels is not None:
            positions = masked_positions(labels)
        if positions is not None:
            hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions)  # (positions, H)
        targets = None
        if labels is not None and positions is not None:
            targets = labels.reshape(-1).index_select(0, positions)
        if loss_only and targets is not None and len(targets) and not asked:
            decoder = self.cls.predictions.decoder
            linear = (self.cls.predictions.transform(hidden), decoder.weight, decoder.bias, targets)
            if soft_targets is None:
                return BortMaskedLMOutput(loss=linear_cross_entropy(*linear), hidden_states=encoded.hidden_states)
            total, hard, soft = linear_distillation(*linear, soft_targets)
            return BortMaskedLMOutput(loss=total, hard_loss=hard, soft_loss=soft, hidden_states=encoded.hidden_states)
        logits = self.cls(hidden)
        loss: Tensor | None = None
        if targets is not None:
            total = nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
            # Without masked positions there is no mean; the sum is then a true zero that has a gradient.
            loss = total / (targets != IGNORED).sum().clamp(min=1)
        own = loss
        distance: Tensor | None = None
        if loss is not None and soft_targets is not None:
            distance = soft_distance(logits, soft_targets)
            loss = soft_targets.mlm_weight * loss + soft_targets.kd_weight * distance
        return BortMaskedLMOutput(
            loss=loss,
            hard_loss=own,
            soft_loss=distance,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


def masked_positions(labels: Tensor) -> Tensor:
    """Return the indices of labelled positions in the flattened batch. *Shape:* (batch, seq) -> (positions,)."""
    return torch.nonzero(labels.reshape(-1) != IGNORED).squeeze(1)


class _DropoutPooler(nn.Module):
    """The pooler of the released head, with dropout before its tanh layer and after; BERT's pooler has it only after.

    It keeps the pooler's parameter names, so that the weights still fit a plain BERT folder.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = nn.Dropout(config.hidden_dropout_prob if rate is None else rate)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """*Shape:* (batch, seq, H) -> (batch, H), from the first token."""
        first = self.dropout(hidden_states[:, 0])
        pooled: Tensor = self.activation(self.dense(first))
        return pooled


class _LastLayer(BertLayer):
    """A layer that can compute only the first token's output, for a head that reads no other.

    All tokens have a key and a value, but only the first a query, and all that follows attention is computed for it
    alone. This leaves 36 % of the multiplications in a Bort layer, 17 % in a BERT layer.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *others: Any,
        first_token_only: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """*Shape:* (batch, seq, H) -> the same, or (batch, 1, H)."""
        if not first_token_only:
            whole: Tensor = super().forward(hidden_states, attention_mask, *others, **kwargs)
            return whole
        own = self.attention.self
        first = hidden_states[:, :1]

        def by_head(projected: Tensor) -> Tensor:
            """*Shape:* (batch, seq, H) -> (batch, heads, seq, H / heads)."""
            batch, seq, _ = projected.shape
            return projected.view(batch, seq, own.num_attention_heads, own.attention_head_size).transpose(1, 2)

        if attention_mask is not None and attention_mask.ndim == 4:
            attention_mask = attention_mask[:, :, :1]  # (batch, 1, seq, seq): one row per query
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(own.config._attn_implementation, eager_attention_forward)
        mixed, _ = attend(
            own,
            by_head(own.query(first)),
            by_head(own.key(hidden_states)),
            by_head(own.value(hidden_states)),
            attention_mask,
            dropout=own.dropout.p if self.training else 0.0,
            scaling=own.scaling,
            **kwargs,
        )
        attended = self.attention.output(mixed.flatten(2), first)
        output: Tensor = self.feed_forward_chunk(attended)
        return output


def _read_first_token(model: Any) -> None:
    """Give a classifier the released head, and a last layer that can compute only what that head reads."""
    model.bert.pooler = _DropoutPooler(model.config)
    if layers := model.bert.encoder.layer:
        layers[-1] = _LastLayer(model.config, layer_idx=len(layers) - 1)
    model.post_init()


def _only_first_token(model: Any, asked: dict[str, Any]) -> bool:
    """Whether neither hidden states nor attentions are requested."""
    outputs = ("output_hidden_states", "output_attentions")
    return not any(asked.get(name, getattr(model.config, name, False)) for name in outputs)


class BortForSequenceClassification(BertForSequenceClassification):
    """Dropout, Dense(H, tanh), dropout, Dense(n) on `<s>`; n = 1 with `problem_type="regression"` is a regressor.

    The last layer's output is computed only for `<s>`, unless hidden states or attentions are requested.

    Example:
        >>> import torch
        >>> from bort import architecture
        >>> config = architecture("tiny.json", vocab_size=100)
        >>> config.num_labels = 3
        >>> BortForSequenceClassification(config)(torch.tensor([[0, 5, 6, 2]])).logits.shape
        torch.Size([1, 3])
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        _read_first_token(self)

    @wraps(BertForSequenceClassification.forward)
    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the library's forward, with only the first token in the last layer unless more is requested."""
        return super().forward(*inputs, first_token_only=_only_first_token(self, kwargs), **kwargs)


class BortForMultipleChoice(BertForMultipleChoice):
    """The same head with one score per choice. *Shape:* input_ids (batch, choices, seq) -> logits (batch, choices).

    Example:
        >>> import torch
        >>> from bort import architecture
        >>> config = architecture("tiny.json", vocab_size=100)
        >>> BortForMultipleChoice(config)(torch.tensor([[[0, 5, 2], [0, 6, 2]]])).logits.shape
        torch.Size([1, 2])
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        _read_first_token(self)

    @wraps(BertForMultipleChoice.forward)
    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the library's forward, with only the first token in the last layer unless more is requested."""
        return super().forward(*inputs, first_token_only=_only_first_token(self, kwargs), **kwargs)


def set_dropout(model: BortForMaskedLM, rate: float) -> None:
    """Set the dropout of the layers, not of the configuration, so that the saved model keeps its usual rate."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
