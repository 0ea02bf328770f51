"""Map models of the BERT family to BERT's weight names; they differ in first position and classification head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bort.errors import BortError
from bort.model.pair_features import BI_ENCODER
from bort.predict.graph.bert_graph import ACTIVATIONS, BertShape, Weights
from bort.predict.manifest import Pooling

_ROBERTA = (("classifier.dense.", "pooler.dense."), ("classifier.out_proj.", "classifier."))
_DISTILBERT = (
    ("pre_classifier.", "pooler.dense."),
    ("transformer.layer.", "encoder.layer."),
    (".attention.q_lin.", ".attention.self.query."),
    (".attention.k_lin.", ".attention.self.key."),
    (".attention.v_lin.", ".attention.self.value."),
    (".attention.out_lin.", ".attention.output.dense."),
    (".sa_layer_norm.", ".attention.output.LayerNorm."),
    (".ffn.lin1.", ".intermediate.dense."),
    (".ffn.lin2.", ".output.dense."),
    (".output_layer_norm.", ".output.LayerNorm."),
)
NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "bert": (),
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""Supported model types, each with its parts of weight names and BERT's."""
_ENCODERS = ("bert.", "distilbert.", "roberta.")
"""Prefixes of an encoder's weight names inside a classifier."""


def as_bert(
    config: Mapping[str, Any], state: Weights, name: str, *, takes_types: bool, pooling: Pooling | None = None
) -> tuple[BertShape, Weights]:
    """Convert a classifier or encoder of `transformers` to BERT's shape and weights.

    Args:
        config: Content of its `config.json`.
        state: Its weights under its own names.
        name: Its folder or name, for messages.
        takes_types: Whether the graph takes `token_type_ids`.
        pooling: How an encoder pools its token vectors; None for a classifier.

    Raises:
        BortError: The architecture, activation, positions or head are not supported.
    """
    kind = config["model_type"]
    if kind not in NAMES:
        rule = f"must be one of {', '.join(NAMES)} to be exported to ONNX Runtime; --engine openvino takes others too"
        raise BortError(rule, file=name, column="model_type", value=kind)
    distilled = kind == "distilbert"
    activation = config["activation" if distilled else "hidden_act"]
    if activation not in ACTIVATIONS:
        rule = f"the activation must be one of {', '.join(ACTIVATIONS)}"
        raise BortError(rule, file=name, column="hidden_act", value=activation)
    positions = config.get("position_embedding_type") or "absolute"
    if positions != "absolute" or config.get("is_decoder", False):
        raise BortError("must be an encoder with absolute positions to be exported", file=name, value=positions)
    weights = {_renamed(own, kind): values for own, values in state.items()}
    bi_encoder = pooling is None and BI_ENCODER in (config.get("architectures") or [])
    if bi_encoder and not takes_types:
        raise BortError("a bi-encoder's tokenizer must give token_type_ids", file=name)
    if pooling is None and not bi_encoder and "pooler.dense.weight" not in weights:
        raise BortError("must have BERT's pooler to be exported", file=name)
    places = weights["embeddings.position_embeddings.weight"]
    padding = config["pad_token_id"] if NAMES[kind] is _ROBERTA else None
    if padding is not None:
        weights["embeddings.position_embeddings.weight"] = places[padding:]
    weights.setdefault("embeddings.token_type_embeddings.weight", np.zeros((1, places.shape[1]), np.float32))
    shape = BertShape(
        layers=config["n_layers" if distilled else "num_hidden_layers"],
        heads=config["n_heads" if distilled else "num_attention_heads"],
        activation=activation,
        eps=1e-12 if distilled else config["layer_norm_eps"],
        takes_types=takes_types,
        pooled_by="Relu" if distilled else "Tanh",
        uncounted_id=padding,
        pooling=pooling,
        bi_encoder=bi_encoder,
    )
    return shape, weights


def _renamed(own: str, kind: str) -> str:
    for encoder in _ENCODERS:
        own = own.removeprefix(encoder)
    for theirs, berts in NAMES[kind]:
        own = own.replace(theirs, berts)
    return own
