"""A graph whose int8 weights have 8 bits, with 7 instead, for processors that cannot add up products of 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.predict.int8_weights import narrowed

_SCALES = {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 3, "QAttention": 4}
"""The input with the scales of the weights, which are input 1."""


def narrowed_graph(graph: bytes, folder: Path) -> bytes:
    """The graph with the weights of its int8 products narrowed, which it then holds itself.

    Args:
        graph: Content of the graph's file.
        folder: Where the files lie that it names.
    """
    from onnx import TensorProto, load_from_string, numpy_helper

    model = load_from_string(graph)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def values(tensor: Any) -> NDArray[Any]:
        return np.array(numpy_helper.to_array(tensor, str(folder)))

    def put(tensor: Any, changed: NDArray[Any]) -> None:
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = changed.tobytes()

    for node in model.graph.node:
        if node.op_type in _SCALES:
            weights, scales = tensors[node.input[1]], tensors[node.input[_SCALES[node.op_type]]]
            if (found := narrowed(values(weights))) is not None:
                put(weights, found[0])
                put(scales, (values(scales) * found[1]).astype(np.float32))
    return bytes(model.SerializeToString())
