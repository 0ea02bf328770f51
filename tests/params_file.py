"""A writer of `.params` files, for tests of their reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bort.model.convert.mxnet import DTYPES, LIST_MAGIC, MAGIC


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
