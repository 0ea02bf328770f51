"""The most that this machine multiplies in a second, in each precision: no model is faster than its products."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from bort.export.onnx_graph import Graph
from bort.export.quantization import per_channel
from bort.predict.onnx_engine import open_session
from bort.runtime.speed.timing import take_turns

_SIZES = ((512, 1024, 1024), (1024, 2048, 1024))
_ROUNDS = 10


def peaks(threads: int, precisions: Collection[str] = ("fp32", "int8")) -> dict[str, float]:
    """Additions and multiplications a second of the fastest of some matrix products.

    Args:
        threads: That compute.
        precisions: Which; where the processor has no instructions for bf16, its product takes very long.

    Returns:
        By precision: "fp32" and "bf16" by PyTorch's product or, if that is faster, ONNX Runtime's; "int8" by ONNX
        Runtime's product of whole numbers.
    """
    import torch

    torch.set_num_threads(threads)
    functions: dict[tuple[str, str, int], Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for rows, inner, columns in _SIZES:
            operations = 2 * rows * inner * columns
            first, second = torch.randn(rows, inner), torch.randn(inner, columns)
            for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
                if precision in precisions:
                    a, b = first.to(dtype), second.to(dtype)
                    functions[precision, "torch", operations] = lambda a=a, b=b: a @ b
            for precision in {"fp32", "int8"} & set(precisions):
                folder = Path(work) / f"{precision}-{operations}"
                folder.mkdir()
                session = _product(folder, second.numpy(), precision, threads)
                given = first.numpy() if precision == "fp32" else np.ones((rows, inner), np.uint8)
                functions[precision, "onnxruntime", operations] = lambda s=session, g=given: s.run(None, {"values": g})
        seconds = take_turns(functions, _ROUNDS)
    found: dict[str, float] = {}
    for (precision, _, operations), times in seconds.items():
        found[precision] = max(found.get(precision, 0.0), operations / min(times))
    return found


def _product(folder: Path, matrix: Any, precision: str, threads: int) -> Any:
    graph = Graph()
    if precision == "fp32":
        graph.add("MatMul", ["values", graph.weight("matrix", matrix)], name="product")
        given = "float32"
    else:
        whole, scales = per_channel(matrix, axis=1)
        scale = graph.weight("scale", np.asarray(0.01, np.float32))
        zero = graph.weight("zero", np.asarray(128, np.uint8))
        inputs = ["values", graph.weight("matrix", whole), scale, graph.weight("scales", scales), zero]
        graph.add("MatMulIntegerToFloat", inputs, name="product")
        given = "uint8"
    graph.write(folder / "model.onnx", {"values": ("rows", "inner")}, {"product": ("rows", "columns")}, dtype=given)
    return open_session(folder, (folder / "model.onnx").read_bytes(), threads)
