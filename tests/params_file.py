"""A writer of `.params` files and a tiny Bort of random weights, for tests of their reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bort.model.convert.mxnet import DTYPES, LIST_MAGIC, MAGIC

HEADS, HIDDEN, WIDE, VOCABULARY, POSITIONS, LABELS = 4, 8, 12, 300, 16, 3


def write_params(path: Path, arrays: Mapping[str, np.ndarray], *, version: int = 2) -> None:
    """Write arrays as MXNet's `nd.save` does; scalars and empty arrays exist in version 3 only."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays))]
    codes = {dtype: code for code, dtype in DTYPES.items()}
    for array in arrays.values():
        storage = b"" if version == 1 else struct.pack("<i", 0)
        shape = struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
        place_and_type = struct.pack("<iii", 1, 0, codes[array.dtype.newbyteorder("<")])
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts += [struct.pack("<I", MAGIC[version]), storage, shape, place_and_type, data]
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode("utf-8")
        parts += [struct.pack("<Q", len(encoded)), encoded]
    path.write_bytes(b"".join(parts))


def tiny_bort(kind: str, *, depth: int = 2, dtype=np.float32, vocabulary: int = VOCABULARY) -> dict[str, np.ndarray]:
    """Random arrays under the names of the original code; `kind` is "mlm", "cls" or "encoder"."""
    rng = np.random.default_rng(7)

    def dense(name: str, rows: int, columns: int) -> None:
        arrays[f"{name}.weight"] = rng.normal(0, 0.3, (rows, columns)).astype(dtype)
        arrays[f"{name}.bias"] = rng.normal(0, 0.1, rows).astype(dtype)

    def norm(name: str) -> None:
        arrays[f"{name}.gamma"] = rng.normal(1, 0.1, HIDDEN).astype(dtype)
        arrays[f"{name}.beta"] = rng.normal(0, 0.1, HIDDEN).astype(dtype)

    arrays: dict[str, np.ndarray] = {}
    start = "bort." if kind == "cls" else ""
    arrays[f"{start}encoder.position_weight"] = rng.normal(0, 0.3, (POSITIONS, HIDDEN)).astype(dtype)
    norm(f"{start}encoder.layer_norm")
    for index in range(depth):
        cell = f"{start}encoder.transformer_cells.{index}"
        for part in ("query", "key", "value"):
            dense(f"{cell}.attention_cell.proj_{part}", HIDDEN, HIDDEN)
        dense(f"{cell}.proj", HIDDEN, HIDDEN)
        norm(f"{cell}.layer_norm")
        dense(f"{cell}.ffn.ffn_1", WIDE, HIDDEN)
        dense(f"{cell}.ffn.ffn_2", HIDDEN, WIDE)
        norm(f"{cell}.ffn.layer_norm")
    words = arrays[f"{start}word_embed.0.weight"] = rng.normal(0, 0.3, (vocabulary, HIDDEN)).astype(dtype)
    if kind == "mlm":
        dense("decoder.0", HIDDEN, HIDDEN)
        norm("decoder.2")
        arrays["decoder.3.weight"] = words
        arrays["decoder.3.bias"] = rng.normal(0, 0.1, vocabulary).astype(dtype)
    if kind == "cls":
        dense("classifier.1", HIDDEN, HIDDEN)
        dense("classifier.3", LABELS, HIDDEN)
    return arrays
