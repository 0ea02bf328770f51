"""Narrow a graph's 8-bit weights to 7 bits, for processors that cannot sum 8-bit products without overflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.predict.int8_weights import narrowed

_SCALES = {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 3, "QAttention": 4}
"""Index of the input with the weights' scales; the weights are input 1."""


def narrowed_graph(graph: bytes, folder: Path) -> bytes:
    """Return the graph with the weights of its int8 products narrowed and stored inside it.

    Args:
        graph: Content of the graph's file.
        folder: Folder of the files that it refers to.
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
