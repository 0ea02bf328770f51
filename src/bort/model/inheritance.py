"""Reads encoders of the BERT family as BERT: one set of names, whatever class the weights come from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from bort.errors import BortError

_AS_BERT = ("bert", "roberta", "xlm-roberta", "camembert")
_HEAD_NAMES = {
    "lm_head.bias": "cls.predictions.bias",
    "lm_head.dense.weight": "cls.predictions.transform.dense.weight",
    "lm_head.dense.bias": "cls.predictions.transform.dense.bias",
    "lm_head.layer_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "lm_head.layer_norm.bias": "cls.predictions.transform.LayerNorm.bias",
}
"""RoBERTa's masked-LM head is BERT's under other names."""

_CONFIG = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "classifier_dropout",
    "mlm_layer_norm_eps",
)


@dataclass(frozen=True)
class ReadEncoder:
    """A trained encoder, read as a BERT.

    Args:
        config: BERT configuration of its shape.
        weights: Weights of the encoder, by their names within `BertModel`; they share the model's memory.
        head: Masked-LM head weights, by their names within `BertForMaskedLM`, without the tied decoder; None if absent.
        head_class: The model class with that head.
    """

    config: BertConfig
    weights: dict[str, Tensor]
    head: dict[str, Tensor] | None
    head_class: type[BertForMaskedLM]

    @property
    def has_pooler(self) -> bool:
        """Whether the encoder has a pooler."""
        return "pooler.dense.weight" in self.weights


def read_source(model: PreTrainedModel) -> ReadEncoder:
    """Read an encoder as a BERT.

    RoBERTa and XLM-RoBERTa are BERTs whose positions start at `pad_token_id + 1`; the rows before it are dropped.

    Raises:
        BortError: The model is of another family (MPNet's attention has a bias that BERT lacks), is a decoder, or has
            a masked-LM head that is not tied to the word embedding or that BERT would compute otherwise.
    """
    theirs = model.config
    family = theirs.model_type
    if family not in _AS_BERT:
        why = " (its attention has a bias by distance, which BERT has no place for)" if family == "mpnet" else ""
        raise BortError(f"must be an encoder of one of {', '.join(_AS_BERT)}{why}", value=family)
    absolute = getattr(theirs, "position_embedding_type", None) in (None, "absolute")
    if getattr(theirs, "is_decoder", False) or getattr(theirs, "add_cross_attention", False) or not absolute:
        raise BortError("must be an encoder with absolute positions", value=family)
    encoder = model.base_model
    weights = {name: tensor.detach() for name, tensor in encoder.state_dict().items() if not name.endswith("_ids")}
    config = BertConfig(**{name: getattr(theirs, name) for name in _CONFIG if hasattr(theirs, name)})
    if family != "bert":
        first = theirs.pad_token_id + 1
        positions = weights["embeddings.position_embeddings.weight"][first:]
        weights["embeddings.position_embeddings.weight"] = positions
        config.max_position_embeddings = len(positions)
    head_class = type(model) if isinstance(model, BertForMaskedLM) else BertForMaskedLM
    return ReadEncoder(config, weights, _head(model), head_class)


def _head(model: PreTrainedModel) -> dict[str, Tensor] | None:
    if model.get_output_embeddings() is None:
        return None
    state = model.state_dict()
    head = {
        _HEAD_NAMES.get(name, name): tensor.detach()
        for name, tensor in state.items()
        if name.startswith(("cls.predictions.", "lm_head.")) and ".decoder." not in name
    }
    if sorted(head) != sorted(_HEAD_NAMES.values()):
        return None
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise BortError("a masked-LM head's decoder must be the word embedding", value=type(model).__name__)
    config = model.config
    if config.model_type != "bert" and config.hidden_act != "gelu":
        rule = "must be gelu, as in any masked-LM head of RoBERTa; one of BERT has the activation of its layers"
        raise BortError(rule, column="hidden_act", value=config.hidden_act)
    return head
