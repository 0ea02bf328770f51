"""A builder of ONNX graphs: nodes and weights, written as two files, of which ONNX Runtime maps the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.files import write_aside

_OPSETS = {"": 18, "com.microsoft": 1}
_IR_VERSION = 10
_INLINE_BYTES = 1024
_PAGE_BYTES = 4096
_FUSED = frozenset(
    {
        "Attention",
        "BiasGelu",
        "DynamicQuantizeMatMul",
        "FastGelu",
        "MatMulIntegerToFloat",
        "MultiHeadAttention",
        "QAttention",
    }
)
"""Operators of ONNX Runtime that combine several standard operators."""


class Graph:
    """Nodes in the order of computation; `add` returns the names of a node's outputs.

    Args:
        dtype: numpy type of the inputs.
    """

    def __init__(self, dtype: str = "int64") -> None:
        self.dtype = dtype
        self.inputs: dict[str, tuple[str | int, ...]] = {}
        """Names and shapes of the inputs; named dimensions may vary."""
        self.outputs: dict[str, tuple[str | int, ...]] = {}
        """Names and shapes of the outputs, all float32."""
        self.operators: list[str] = []
        """The operators so far, in order."""
        self._nodes: list[Any] = []
        self._weights: dict[str, NDArray[Any]] = {}

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; an existing name keeps its values."""
        self._weights.setdefault(name, np.ascontiguousarray(values))
        return name

    def add(self, operator: str, inputs: Sequence[str], *, name: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node.

        Args:
            operator: A standard operator, or one of ONNX Runtime's own.
            inputs: Names; "" for an omitted input.
            name: Name of the node and of its first output.
            outputs: Number of outputs.
            attributes: Attributes of the operator.

        Returns:
            The outputs' names.
        """
        from onnx import helper

        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        domain = "com.microsoft" if operator in _FUSED else ""
        self._nodes.append(helper.make_node(operator, list(inputs), names, name=name, domain=domain, **attributes))
        self.operators.append(operator)
        return names

    def write(self, file: Path) -> list[str]:
        """Write the graph to `file` and its weights to `file`.data.

        Weights outside the graph are mapped into memory, not read: of a word embedding, only the pages that are used
        are loaded.

        Returns:
            The names of both files.
        """
        data = file.with_name(file.name + ".data")
        with write_aside(data, "wb") as out:

            def place(raw: bytes) -> int:
                out.write(b"\0" * (-out.tell() % _PAGE_BYTES))
                begin = out.tell()
                out.write(raw)
                return int(begin)

            content = self._serialized(data.name, place)
        with write_aside(file, "wb") as out:
            out.write(content)
        return [file.name, data.name]

    def in_memory(self) -> tuple[bytes, dict[str, NDArray[Any]]]:
        """The graph, and the weights stored outside it."""
        outside = {name: values for name, values in self._weights.items() if values.nbytes > _INLINE_BYTES}
        return self._serialized("weights", lambda raw: 0), outside

    def _serialized(self, data: str, place: Callable[[bytes], int]) -> bytes:
        """Serialise the graph; `place` stores a weight in the file `data` and returns its offset."""
        from onnx import TensorProto, helper

        tensors = []
        for name, values in self._weights.items():
            tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))
            if values.nbytes <= _INLINE_BYTES:
                tensor.raw_data = values.tobytes()
            else:
                tensor.data_location = TensorProto.EXTERNAL
                begin = place(values.tobytes())
                for key, value in (("location", data), ("offset", begin), ("length", values.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
        given = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self._nodes,
            "bort",
            [helper.make_tensor_value_info(name, given, shape) for name, shape in self.inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.outputs.items()],
            initializer=tensors,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="bort")
        return bytes(model.SerializeToString(deterministic=True))
