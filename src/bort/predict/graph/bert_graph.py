"""Build a BERT classifier or encoder as a graph of fused operators: one node per attention, layer norm and GELU.

The graph is not traced: `torch.onnx.export` writes attention as a dozen small operators, which ONNX Runtime's
optimizer does not recognise. Building it also allows what no optimizer finds: if only the first token's output is used,
as by a classifier, the last layer computes the query, and everything after attention, for that token alone. It also
computes neither keys nor values: see `BertGraph._attention_of_first`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.model.pair_features import PRODUCT_WEIGHT
from bort.predict.graph.onnx_graph import Graph
from bort.predict.graph.quantization import Quantization, Range, input_scale, per_channel
from bort.predict.manifest import Pooling

ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_python": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class BertShape:
    """The properties of a BERT classifier or encoder that do not follow from its weights.

    Args:
        layers: Number of layers of the encoder.
        heads: Number of attention heads per layer.
        activation: Activation of the feed-forward part, as named by `transformers`.
        eps: Epsilon of the layer norms.
        takes_types: Whether the graph takes `token_type_ids`.
        pooled_by: Operator between the two layers of the head.
        uncounted_id: The padding token, which RoBERTa skips when it numbers positions: it has position 0, and the
            other tokens count from 1. None if positions count from 0 for all tokens.
        pooling: How an encoder pools its token vectors; None for a classifier, which has a head instead.
        bi_encoder: Whether the two texts of a pair are encoded separately; `token_type_ids` then separate them.
    """

    layers: int
    heads: int
    activation: str
    eps: float
    takes_types: bool
    pooled_by: Literal["Tanh", "Relu"] = "Tanh"
    uncounted_id: int | None = None
    pooling: Pooling | None = None
    bi_encoder: bool = False

    @property
    def blocks(self) -> tuple[str, ...]:
        """Blocks that can individually stay in fp32."""
        head = () if self.pooling or self.bi_encoder else ("pooler",)
        return ("embeddings", *(f"layer.{number}" for number in range(self.layers)), *head)


class BertGraph:
    """Builds the graph of a model.

    Args:
        shape: Shape of the model.
        weights: Weights by their names in `transformers`, without "bert.".
        quantization: Settings of int8; None for fp32.
        ranges: Calibrated range of each matrix's input, by the matrix's name. Without them, the range of each batch is
            computed as it runs.
    """

    def __init__(
        self,
        shape: BertShape,
        weights: Weights,
        quantization: Quantization | None = None,
        ranges: Mapping[str, Range] = MappingProxyType({}),
    ) -> None:
        self.shape, self._quantization, self._ranges = shape, quantization, ranges
        self._source = weights
        self.graph = Graph()
        self.matrix_inputs: dict[str, str] = {}
        """Matrices that can be int8, and the names of their inputs."""
        self._quantized_inputs: dict[str, list[str]] = {}
        self._ids, self._mask = "input_ids", "attention_mask"

    def write(self, file: Path, *, with_inputs: bool = False) -> list[str]:
        """Write the model; returns the names of its files.

        Its inputs are `input_ids`, `attention_mask` (padding on the right only) and, if the shape has `takes_types`,
        `token_type_ids`, *shape* (batch, length) each; its first output is `logits`, or an encoder's `vectors`,
        *shape* (batch, outputs).

        Args:
            file: File to write.
            with_inputs: Whether the inputs of the matrices are additional outputs, for calibration.
        """
        return self._finished(with_inputs=with_inputs).write(file)

    def in_memory(self) -> tuple[bytes, Weights]:
        """The model as `write` would write it, and the weights stored outside it."""
        return self._finished().in_memory()

    def _finished(self, *, with_inputs: bool = False) -> Graph:
        if self.shape.bi_encoder:
            self._take_apart()
        means = self.shape.bi_encoder or self.shape.pooling == "mean"
        hidden, lengths = self._embedded()
        for number in range(self.shape.layers):
            first_only = number == self.shape.layers - 1 and not means
            hidden = self._layer(number, hidden, lengths, first_only=first_only)
        self.graph.inputs = dict.fromkeys(self.input_names, ("batch", "length"))
        if self.shape.pooling is None:
            end = self._compare if self.shape.bi_encoder else self._head
            end(hidden)
            self.graph.outputs = {"logits": ("batch", len(self._source["classifier.bias"]))}
        else:
            self._pooled(hidden, self.shape.pooling)
            width = self._source["embeddings.word_embeddings.weight"].shape[1]
            self.graph.outputs = {"vectors": ("batch", width)}
        if with_inputs:
            # Dimensions of the same name must be equal, and these are not.
            seen = dict.fromkeys(self.matrix_inputs.values())
            self.graph.outputs |= {
                name: tuple(f"{name}.{part}" for part in ("rows", "length", "width")) for name in seen
            }
        return self.graph

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return ("input_ids", "attention_mask", *(["token_type_ids"] if self.shape.takes_types else []))

    def _add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self.graph.add(operator, inputs, name=name, **attributes)[0]

    def _own(self, name: str) -> str:
        return self.graph.weight(name, self._source[name])

    def _ints(self, *values: int) -> str:
        return self.graph.weight(f"ints.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _is_int8(self, name: str) -> bool:
        return self._quantization is not None and not self._quantization.keeps(name)

    def _embedded(self) -> tuple[str, str]:
        """The embedding output, *shape* (batch, length, H), and the number of tokens, *shape* (batch,)."""
        lengths = self._add("ReduceSum", [self._mask, self._ints(1)], "lengths.long", keepdims=0)
        lengths = self._add("Cast", [lengths], "lengths", to=6)  # 6 is int32
        words = "embeddings.word_embeddings.weight"
        if self._is_int8("embeddings"):
            assert self._quantization is not None
            whole, scales = per_channel(self._source[words], axis=0)
            table = self.graph.weight(f"{words}.int8", whole)
            looked = self._add("Gather", [table, self._ids], "words.int8")
            looked = self._add("Cast", [looked], "words.whole", to=1)  # 1 is float
            scale = self.graph.weight(f"{words}.scales", scales[:, None])
            embedded = self._add("Mul", [looked, self._add("Gather", [scale, self._ids], "words.scales")], "words")
        else:
            embedded = self._add("Gather", [self._own(words), self._ids], "words")
        places = self._source["embeddings.position_embeddings.weight"]
        kinds = self._source["embeddings.token_type_embeddings.weight"]
        if self.shape.takes_types and not self.shape.bi_encoder:
            kind = self._add("Gather", [self.graph.weight("kinds.table", kinds), "token_type_ids"], "kinds")
            embedded = self._add("Add", [embedded, kind], "words_and_kinds")
        else:
            places = places + kinds[:1]
        return self._norm(embedded, self._placed(places), "embeddings.LayerNorm"), lengths

    def _placed(self, table: NDArray[np.float32]) -> str:
        """Position embeddings. *Shape:* (positions, H) -> (1 or batch, length, H)."""
        if self.shape.uncounted_id is None:
            length = self._add("Shape", [self._ids], "length", start=1, end=2)
            whole = self.graph.weight("places.table", table[None])
            return self._add("Slice", [whole, self._ints(0), length, self._ints(1)], "places")
        uncounted = self._add("Equal", ["input_ids", self._ints(self.shape.uncounted_id)], "uncounted")
        counted = self._add("Cast", [self._add("Not", [uncounted], "counted.bool")], "counted", to=7)  # 7 is int64
        number = self._add("CumSum", [counted, self._ints(1)], "numbered")
        place = self._add("Mul", [number, counted], "numbers")
        return self._add("Gather", [self.graph.weight("places.table", table), place], "places")

    def _layer(self, number: int, hidden: str, lengths: str, *, first_only: bool) -> str:
        name, long = f"layer.{number}", f"encoder.layer.{number}"
        residual = hidden
        if first_only:
            residual = self._add("Slice", [hidden, self._ints(0), self._ints(1), self._ints(1)], "first")
            found = self._attention_of_first(residual, hidden, name, f"{long}.attention.self", lengths)
        else:
            found = self._self_attention(hidden, name, f"{long}.attention.self", lengths)
        found = self._linear(found, f"{name}.attention.output", f"{long}.attention.output.dense")
        hidden = self._norm(found, residual, f"{long}.attention.output.LayerNorm")
        inner = self._product(hidden, f"{name}.intermediate", self._source[f"{long}.intermediate.dense.weight"].T)
        inner = self._activated(inner, self._own(f"{long}.intermediate.dense.bias"), f"{name}.activation")
        return self._norm(
            self._linear(inner, f"{name}.output", f"{long}.output.dense"), hidden, f"{long}.output.LayerNorm"
        )

    def _self_attention(self, hidden: str, name: str, long: str, lengths: str) -> str:
        """*Shape:* (batch, length, H) -> the same."""
        parts = ("query", "key", "value")
        matrix = np.concatenate([self._source[f"{long}.{part}.weight"].T for part in parts], axis=1)
        biases = np.concatenate([self._source[f"{long}.{part}.bias"] for part in parts])
        bias = self.graph.weight(f"{name}.qkv.bias", biases)
        self.matrix_inputs[f"{name}.qkv"] = hidden
        heads = {"num_heads": self.shape.heads}
        if not self._is_int8(f"{name}.qkv"):
            inputs = [hidden, self.graph.weight(f"{name}.qkv", matrix), bias, lengths]
            return self._add("Attention", inputs, f"{name}.attention", **heads)
        whole, scales = self._int8_weights(f"{name}.qkv", matrix)
        asked, scale, zero = self._int8_input(hidden, f"{name}.qkv")
        return self._add("QAttention", [asked, whole, bias, scale, scales, lengths, zero], f"{name}.attention", **heads)

    def _attention_of_first(self, first: str, hidden: str, name: str, long: str, lengths: str) -> str:
        """Attention output of the first token. *Shape:* (batch, 1, H), (batch, length, H) -> (batch, 1, H).

        A single query needs neither keys nor values of all tokens. Its scores q (W_k h) are (W_k' q) h, and its output
        is W_v times the weighted sum of all h: each matrix multiplies one row per head, not one per token. The bias of
        the keys shifts all scores equally, so it has no effect. Each head's row is 0 in the columns of other heads.
        """
        weight = {part: self._source[f"{long}.{part}.weight"] for part in ("query", "key", "value")}
        width = len(weight["query"]) // self.shape.heads
        places = np.kron(np.eye(self.shape.heads, dtype=np.float32), np.ones((1, width), np.float32))[None]
        own = self.graph.weight("heads.places", places)
        scaled = self.graph.weight("heads.scaled_places", places / np.float32(np.sqrt(width)))
        query = self._biased(self._product(first, f"{name}.q", weight["query"].T), f"{long}.query.bias", f"{name}.q")
        query = self._add("Mul", [query, scaled], f"{name}.queries")
        query = self._product(query, f"{name}.k", weight["key"])
        sums = self._add(
            "MultiHeadAttention", [query, hidden, hidden, "", lengths], f"{name}.sums", num_heads=1, scale=1.0
        )
        found = self._add("Mul", [self._product(sums, f"{name}.v", weight["value"].T), own], f"{name}.found_apart")
        found = self._add("ReduceSum", [found, self._ints(1)], f"{name}.found", keepdims=1)
        return self._biased(found, f"{long}.value.bias", f"{name}.v")

    def _pooled(self, hidden: str, pooling: Pooling) -> None:
        """One vector per row. *Shape:* (batch, length or 1, H) -> (batch, H)."""
        if pooling == "cls":
            self._add("Squeeze", [hidden, self._ints(1)], "vectors")
            return
        mask = self._add("Cast", [self._mask], "mask", to=1)  # 1 is float
        own = self._add("Mul", [hidden, self._add("Unsqueeze", [mask, self._ints(2)], "mask.column")], "own")
        if self._ranges:
            # ONNX Runtime sums the tokens of a single row in another order than of several, which changes the last bit.
            own = self._add("Pad", [own, self._ints(0, 0, 0, 1, 0, 0)], "own.and_a_row")
        total = self._add("ReduceSum", [own, self._ints(1)], "total.and_a_row" if self._ranges else "total", keepdims=0)
        if self._ranges:
            total = self._add("Slice", [total, self._ints(0), self._ints(-1), self._ints(0)], "total")
        count = self._add("ReduceSum", [mask, self._ints(1)], "count", keepdims=1)
        self._add("Div", [total, count], "vectors")

    def _take_apart(self) -> None:
        """Split pairs into rows of single texts: see `bort.model.bi_encoder.taken_apart`."""
        add, one = self._add, self._ints(1)
        kinds = add("Mul", ["token_type_ids", "attention_mask"], "second.kinds")
        second = add("ReduceSum", [kinds, one], "second.counted", keepdims=1)
        both = add("ReduceSum", ["attention_mask", one], "both.length", keepdims=1)
        first = add("Max", [add("Sub", [both, second], "first.counted"), one], "first.length")
        second = add("Sub", [both, first], "second.length")
        width = add("Shape", ["input_ids"], "both.width", start=1, end=2)
        longest = add("Max", [first, add("Add", [second, one], "second.with_cls")], "text.lengths")
        # In int8 rows of a batch have one width, and padding to it does not depend on where the others are split.
        longest = add("ReduceMax", [width if self._ranges else longest], "text.longest", keepdims=0)
        scalars = [self.graph.weight(f"scalar.{value}", np.array(value, np.int64)) for value in (0, 1)]
        place = add("Range", [scalars[0], longest, scalars[1]], "text.place")
        last = add("Sub", [width, one], "both.last")

        def taken(name: str, start: str) -> str:
            at = add("Min", [add("Add", [start, place], f"{name}.at"), last], f"{name}.at_most")
            at = add("Max", [at, self._ints(0)], f"{name}.place")
            return add("GatherElements", ["input_ids", at], f"{name}.ids", axis=1)

        a = taken("first", add("Mul", [first, self._ints(0)], "first.start"))
        b = taken("second", add("Sub", [first, one], "second.start"))
        cls = add("Slice", ["input_ids", self._ints(0), one, one], "cls")
        b = add("Where", [add("Equal", [place, self._ints(0)], "text.begins"), cls, b], "second.with_cls.ids")
        self._ids = add("Concat", [a, b], "texts", axis=0)
        kept = [add("Less", [place, first], "first.mask"), add("LessOrEqual", [place, second], "second.mask")]
        self._mask = add("Cast", [add("Concat", kept, "texts.kept", axis=0)], "texts.mask", to=7)  # 7 is int64

    def _compare(self, hidden: str) -> None:
        """Compute a bi-encoder's features and logits. *Shape:* (2 batch, length, H) -> (batch, outputs)."""
        add, start = self._add, self._ints(0)
        self._pooled(hidden, "mean")
        square = add("ReduceSum", [add("Mul", ["vectors", "vectors"], "vectors.square"), self._ints(1)], "square")
        vectors = add("Div", ["vectors", add("Sqrt", [square], "vectors.length")], "vectors.scaled")
        batch = add("Shape", ["input_ids"], "batch.size", start=0, end=1)
        a = add("Slice", [vectors, start, batch, start], "vectors.a")
        b = add("Slice", [vectors, batch, self._ints(np.iinfo(np.int64).max), start], "vectors.b")
        both = add("Mul", [a, b], "vectors.product")
        weight = self.graph.weight("product.weight", np.array([[PRODUCT_WEIGHT]], np.float32))
        product = add("Mul", [add("ReduceSum", [both, self._ints(1)], "product.sum"), weight], "product")
        apart = add("Abs", [add("Sub", [a, b], "vectors.difference")], "vectors.apart")
        features = add("Concat", [a, b, apart, both, product], "features", axis=1)
        self._logits(self._and_a_row(features, "classifier"))

    def _head(self, hidden: str) -> None:
        first = self._and_a_row(self._add("Squeeze", [hidden, self._ints(1)], "first.output"), "pooler.dense")
        pooled = self._linear(first, "pooler", "pooler.dense")
        self._logits(self._add(self.shape.pooled_by, [pooled], "pooled"))

    def _and_a_row(self, values: str, layer: str) -> str:
        """Append a row of zeros in calibrated int8.

        ONNX Runtime multiplies a single row in another order than several, which changes the last bit.
        """
        if not self._ranges:
            return values
        row = self.graph.weight("head.row", np.zeros((1, self._source[f"{layer}.weight"].shape[1]), np.float32))
        return self._add("Concat", [values, row], f"{values}.and_a_row", axis=0)

    def _logits(self, values: str) -> None:
        """*Shape:* (batch or one more, width) -> (batch, outputs)."""
        name = "logits.and_a_row" if self._ranges else "logits"
        inputs = [values, self._own("classifier.weight"), self._own("classifier.bias")]
        logits = self._add("Gemm", inputs, name, transB=1)
        if self._ranges:
            self._add("Slice", [logits, self._ints(0), self._ints(-1), self._ints(0)], "logits")

    def _linear(self, values: str, name: str, layer: str) -> str:
        matrix, bias = self._source[f"{layer}.weight"].T, self._own(f"{layer}.bias")
        if self._is_int8(name):
            return self._product(values, name, matrix, bias)
        return self._add("Add", [self._product(values, name, matrix), bias], f"{name}.sum")

    def _biased(self, values: str, bias: str, name: str) -> str:
        return self._add("Add", [values, self._own(bias)], f"{name}.biased")

    def _product(self, values: str, name: str, matrix: NDArray[np.float32], int8_bias: str = "") -> str:
        """Multiply by a matrix; `int8_bias` is only added in int8, in fp32 the next node adds the bias."""
        self.matrix_inputs[name] = values
        if not self._is_int8(name):
            return self._add("MatMul", [values, self.graph.weight(name, matrix)], f"{name}.product")
        whole, scales = self._int8_weights(name, matrix)
        if name not in self._ranges:
            inputs = [values, whole, scales, "", int8_bias]
            return self._add("DynamicQuantizeMatMul", inputs, f"{name}.product")
        asked, scale, zero = self._int8_input(values, name)
        inputs = [asked, whole, scale, scales, zero, "", int8_bias]
        return self._add("MatMulIntegerToFloat", inputs, f"{name}.product")

    def _int8_weights(self, name: str, matrix: NDArray[np.float32]) -> tuple[str, str]:
        whole, scales = per_channel(matrix, axis=1)
        return self.graph.weight(f"{name}.int8", whole), self.graph.weight(f"{name}.scales", scales)

    def _int8_input(self, values: str, name: str) -> list[str]:
        """The quantised input of a matrix, its scale and its zero point."""
        if name not in self._ranges:
            if values not in self._quantized_inputs:
                made = self.graph.add("DynamicQuantizeLinear", [values], name=f"{name}.input", outputs=3)
                self._quantized_inputs[values] = made
            return self._quantized_inputs[values]
        scale, zero = input_scale(*self._ranges[name])
        given = [self.graph.weight(f"{name}.input.scale", scale), self.graph.weight(f"{name}.input.zero", zero)]
        return [self._add("QuantizeLinear", [values, *given], f"{name}.input"), *given]

    def _activated(self, values: str, bias: str, name: str) -> str:
        operator = ACTIVATIONS[self.shape.activation]
        if operator == "Relu":
            return self._add("Relu", [self._add("Add", [values, bias], f"{name}.sum")], name)
        return self._add(operator, [values, bias], name)

    def _norm(self, new: str, residual: str, layer: str) -> str:
        # ONNX Runtime's SkipLayerNormalization does both, but takes four times as long, as it is not vectorised.
        total = self._add("Add", [new, residual], f"{layer}.sum")
        inputs = [total, self._own(f"{layer}.weight"), self._own(f"{layer}.bias")]
        return self._add("LayerNormalization", inputs, f"{layer}.output", epsilon=self.shape.eps)
