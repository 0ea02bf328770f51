"""How much of the machine's peak an engine reaches: the time that a model's matrix products alone would take.

`benchmarks.speed.inference` compares it with the measured times: at 100 %, only another model could be faster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bort.predict.graph.onnx_graph import Graph
from bort.predict.graph.quantization import per_channel
from bort.predict.onnx_runner import open_session
from bort.speed.models import CONFIGS
from bort.speed.race import Load, take_turns

_SIZES = ((512, 1024, 1024), (1024, 2048, 1024))
_ROUNDS = 10


LastLayer = Literal["whole", "first", "one query"]
"""What the last layer computes: all; keys and values of all tokens, the rest for the first; or no keys or values."""


def operations(config: Any, tokens: int, *, last: LastLayer = "whole") -> int:
    """Additions and multiplications in the matrix products of one text.

    Args:
        config: Configuration of a BERT or DistilBERT.
        tokens: Length of the text.
        last: What the last layer computes. A classifier reads the first token: traced graphs compute "first", written
            ones "one query" (`BertGraph`), counted without their zeros.
    """
    h, s = config.hidden_size, tokens
    i = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    layer = 8 * s * h * h + 4 * s * s * h + 4 * s * h * i
    behind = 4 * h * h + 4 * h * i
    ends = {
        "whole": layer,
        "first": behind + 4 * s * h * h + 4 * s * h,
        "one query": behind + 4 * h * h + 4 * s * h * config.num_attention_heads,
    }
    return int((config.num_hidden_layers - 1) * layer + ends[last])


def floor_seconds(model: str, engine: str, load: Load, found: dict[str, float]) -> float | None:
    """Seconds that the products of a load would take at the peak; None if the precision has no known peak.

    Args:
        model: One of `CONFIGS`.
        engine: One of `bort.speed.contestants.ENGINES`.
        load: The load.
        found: The peaks.
    """
    config = CONFIGS[model]
    last: LastLayer = "whole"
    if engine.startswith("onnxruntime"):
        last = "one query"
    elif engine.startswith("openvino") and config.model_type == "bert":
        last = "first"
    if not (peak := found.get(precision(engine))):
        return None
    return sum(operations(config, tokens, last=last) for tokens in load.lengths) / peak


def precision(engine: str) -> str:
    """The precision that an engine computes in."""
    return {"eager": "fp32", "sdpa": "fp32"}.get(name := engine.partition("-")[2], name)


def peaks(threads: int, precisions: Collection[str] = ("fp32", "int8")) -> dict[str, float]:
    """Additions and multiplications per second of the fastest of several matrix products.

    Args:
        threads: Number of threads.
        precisions: Those to measure; if the processor has no bf16 instructions, a bf16 product takes very long.

    Returns:
        By precision: "fp32" from PyTorch's product or, if faster, ONNX Runtime's; "bf16" from PyTorch's; "int8" from
        ONNX Runtime's integer product.
    """
    torch.set_num_threads(threads)
    functions: dict[tuple[str, str, int], Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for rows, inner, columns in _SIZES:
            operations = 2 * rows * inner * columns
            first, second = torch.randn(rows, inner), torch.randn(inner, columns)
            for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
                if kind in precisions:
                    a, b = first.to(dtype), second.to(dtype)
                    functions[kind, "torch", operations] = lambda a=a, b=b: a @ b
            for kind in {"fp32", "int8"} & set(precisions):
                folder = Path(work) / f"{kind}-{operations}"
                folder.mkdir()
                session = _product(folder, second.numpy(), kind, threads)
                given = first.numpy() if kind == "fp32" else np.ones((rows, inner), np.uint8)
                functions[kind, "onnxruntime", operations] = lambda s=session, g=given: s.run(None, {"values": g})
        seconds = take_turns(functions, _ROUNDS)
    found: dict[str, float] = {}
    for (kind, _, operations), times in seconds.items():
        found[kind] = max(found.get(kind, 0.0), operations / min(times))
    return found


def _product(folder: Path, matrix: Any, kind: str, threads: int) -> Any:
    graph = Graph("float32" if kind == "fp32" else "uint8")
    if kind == "fp32":
        graph.add("MatMul", ["values", graph.weight("matrix", matrix)], name="product")
    else:
        whole, scales = per_channel(matrix, axis=1)
        scale = graph.weight("scale", np.asarray(0.01, np.float32))
        zero = graph.weight("zero", np.asarray(128, np.uint8))
        inputs = ["values", graph.weight("matrix", whole), scale, graph.weight("scales", scales), zero]
        graph.add("MatMulIntegerToFloat", inputs, name="product")
    graph.inputs, graph.outputs = {"values": ("rows", "inner")}, {"product": ("rows", "columns")}
    graph.write(folder / "model.onnx")
    return open_session(folder, (folder / "model.onnx").read_bytes(), threads)
