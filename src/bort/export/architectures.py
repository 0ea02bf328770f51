"""BERT's relatives by BERT's names: what differs between them is where positions begin, and the classifier's head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bort.errors import BortError
from bort.export.bert_graph import ACTIVATIONS, BertGraph, BertShape, Weights
from bort.export.quantization import Quantization, Range
from bort.predict.encoding import Feed
from bort.predict.manifest import Pooling
from bort.predict.onnx_engine import open_session

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
"""What can be written as a graph: each model type, its names and BERT's."""


def as_bert(
    model: PreTrainedModel, name: str, *, takes_types: bool, pooling: Pooling | None = None
) -> tuple[BertShape, Weights]:
    """Read a classifier or an encoder of `transformers` as BERT's shape and weights.

    Args:
        model: The model.
        name: Where it came from, for messages.
        takes_types: Whether kinds of tokens are told apart.
        pooling: How an encoder makes one vector of its tokens'; None of a classifier.

    Raises:
        BortError: An architecture, an activation, positions or a head that the graph does not know.
    """
    config = model.config
    kind = config.model_type
    if kind not in NAMES:
        rule = f"must be one of {', '.join(NAMES)} to be exported to ONNX Runtime; --engine openvino takes others too"
        raise BortError(rule, file=name, column="model_type", value=kind)
    activation = config.activation if kind == "distilbert" else config.hidden_act
    if activation not in ACTIVATIONS:
        rule = f"the activation must be one of {', '.join(ACTIVATIONS)}"
        raise BortError(rule, file=name, column="hidden_act", value=activation)
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute" or getattr(config, "is_decoder", False):
        raise BortError("must be an encoder with absolute positions to be exported", file=name, value=positions)
    weights = {}
    for own, tensor in model.state_dict().items():
        renamed = re.sub(rf"^{model.base_model_prefix}\.", "", own)
        for theirs, berts in NAMES[kind]:
            renamed = renamed.replace(theirs, berts)
        weights[renamed] = tensor.numpy()
    if pooling is None and "pooler.dense.weight" not in weights:
        raise BortError("must have BERT's pooler to be exported", file=name)
    places = weights["embeddings.position_embeddings.weight"]
    padding = config.pad_token_id if NAMES[kind] is _ROBERTA else None
    if padding is not None:
        weights["embeddings.position_embeddings.weight"] = places[padding:]
    weights.setdefault("embeddings.token_type_embeddings.weight", np.zeros((1, places.shape[1]), np.float32))
    shape = BertShape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        activation=activation,
        eps=1e-12 if kind == "distilbert" else config.layer_norm_eps,
        takes_types=takes_types,
        pooled_by="Relu" if kind == "distilbert" else "Tanh",
        uncounted_id=padding,
        pooling=pooling,
    )
    return shape, weights


class OnnxModel:
    """See `exporting.Exportable`.

    Raises:
        BortError: The model is not of a kind that can be exported.
    """

    engine, file_name = "onnxruntime", "model.onnx"

    def __init__(self, model: PreTrainedModel, name: str, *, takes_types: bool, pooling: Pooling | None = None) -> None:
        self.shape, self.weights = as_bert(model, name, takes_types=takes_types, pooling=pooling)
        self.blocks = self.shape.blocks
        self._ranges: dict[str, Range] = {}

    def calibrate(self, feeds: Sequence[Feed], folder: Path) -> None:
        """Learn what the inputs of each matrix lie between."""
        graph = BertGraph(self.shape, self.weights)
        graph.write(folder / self.file_name, with_inputs=True)
        session = open_session(folder, (folder / self.file_name).read_bytes())
        names = [*dict.fromkeys(graph.matrix_inputs.values())]
        seen = dict.fromkeys(names, (0.0, 0.0))
        for feed in feeds:
            for name, values in zip(names, session.run(names, feed), strict=True):
                low, high = seen[name]
                seen[name] = (min(low, float(values.min())), max(high, float(values.max())))
        self._ranges = {matrix: seen[name] for matrix, name in graph.matrix_inputs.items()}

    def write(self, file: Path, quantization: Quantization | None) -> None:
        """Write the graph, and its weights beside it."""
        BertGraph(self.shape, self.weights, quantization, self._ranges).write(file)
