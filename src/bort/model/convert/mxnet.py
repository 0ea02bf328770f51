"""A bounded reader of MXNet's NDArray-list files (`.params`), without MXNet.

The layout is that of `NDArray::Save` in MXNet's `src/ndarray/ndarray.cc`, little endian::

    u64 0x112, u64 0, u64 count, count × array, u64 count, count × (u64 length, UTF-8 name)
    array: u32 magic, [i32 storage type, not in V1], u32 ndim, ndim × i64 dim,
           i32 device type, i32 device id, i32 dtype, raw data

The reader first walks over all headers and names, skipping the data, and checks each number against the size of the
file. It allocates arrays only once the whole file is known to be valid, and never more than the size of the file.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from bort.errors import BortError

Array = npt.NDArray[Any]

LIST_MAGIC = 0x112
MAGIC: dict[int, int] = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
"""Magic number by array version: version 1 has no storage type, version 3 follows NumPy's rules for shapes."""

DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name) for code, name in enumerate(("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))
}
_VERSIONS = {magic: version for version, magic in MAGIC.items()}
_DEVICES = (1, 2, 3, 5)  # CPU, GPU, pinned and shared CPU memory; the stored data is the same

MAX_NDIM = 8
MAX_NAME_BYTES = 4096
MAX_ARRAYS = 65_536
MAX_FILE_BYTES = 16 * 2**30
_LEGACY_NDIM = 32
_SMALLEST_ARRAY_BYTES = 20
_SMALLEST_NAME_BYTES = 8


@dataclass(frozen=True)
class _Block:
    """Location of one array in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Cursor:
    """Reads small fields and skips data, never beyond the end of the file."""

    def __init__(self, handle: BinaryIO, path: Path, size: int) -> None:
        self.handle, self.path, self.size = handle, path, size

    @property
    def remaining(self) -> int:
        return self.size - self.handle.tell()

    def fail(self, rule: str, value: object) -> NoReturn:
        raise BortError(rule, file=self.path, value=value) from None

    def bytes(self, count: int, what: str) -> bytes:
        data = self.handle.read(count) if count <= self.remaining else b""
        if len(data) != count:
            self.fail(f"ends inside {what}, which needs this many bytes more", count)
        return data

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", self.bytes(struct.calcsize(f"<{layout}"), what))

    def count(self, what: str, smallest_bytes: int) -> int:
        (count,) = self.numbers("Q", f"the count of {what}")
        if count > MAX_ARRAYS or count * smallest_bytes > self.remaining:
            self.fail(f"the count of {what} must fit in the file and be at most {MAX_ARRAYS}", count)
        return count


def read_params(path: str | Path, *, limit_bytes: int = MAX_FILE_BYTES) -> dict[str, Array]:
    """Read every array of a `.params` file.

    Args:
        path: A file that MXNet's `save_parameters` or `nd.save` wrote.
        limit_bytes: Refuse files larger than this.

    Returns:
        Arrays by name, in the file's order, without the prefixes `arg:` and `aux:`; copies, in native byte order.

    Raises:
        BortError: The file cannot be opened, is too large, or violates the layout.
    """
    path = Path(path)
    try:
        # A pipe or a device would block or never end, so this is checked before opening.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BortError("must be a file", file=path)
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size > limit_bytes:
                raise BortError(f"must have at most {limit_bytes} bytes", file=path, value=size)
            cursor = _Cursor(handle, path, size)
            blocks = _read_headers(cursor)
            return {name: _load(cursor, block) for name, block in blocks.items()}
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BortError(f"cannot be read: {reason}", file=path) from None


def _read_headers(cursor: _Cursor) -> dict[str, _Block]:
    magic, reserved = cursor.numbers("QQ", "the file header")
    if magic != LIST_MAGIC:
        cursor.fail("is not an MXNet .params file: it must begin with the number 0x112", hex(magic))
    if reserved != 0:
        cursor.fail("the second number of the file must be 0", reserved)
    count = cursor.count("arrays", _SMALLEST_ARRAY_BYTES)
    blocks = [_read_header(cursor, f"array {index}") for index in range(count)]
    named = cursor.count("names", _SMALLEST_NAME_BYTES)
    if named != count:
        cursor.fail(f"must name each of its {count} arrays; this is the count of names", named)
    result: dict[str, _Block] = {}
    for block in blocks:
        name = _read_name(cursor)
        if name in result:
            cursor.fail("names must differ, `arg:` and `aux:` aside", name)
        result[name] = block
    if cursor.remaining:
        cursor.fail("must end after the last name; this many bytes follow", cursor.remaining)
    return result


def _read_header(cursor: _Cursor, what: str) -> _Block:
    (magic,) = cursor.numbers("I", what)
    version = _VERSIONS.get(magic)
    if version is None and magic <= _LEGACY_NDIM:
        cursor.fail(f"{what} is in MXNet's oldest layout; load it there and save it again with a newer one", hex(magic))
    if version is None:
        cursor.fail(f"{what} must begin with one of {', '.join(map(hex, _VERSIONS))}", hex(magic))
    if version != 1:
        (storage,) = cursor.numbers("i", what)
        if storage != 0:
            cursor.fail(f"{what} must be stored densely (storage type 0)", storage)
    (ndim,) = cursor.numbers("I", what)
    if ndim > MAX_NDIM:
        cursor.fail(f"{what} must have at most {MAX_NDIM} dimensions", ndim)
    shape = cursor.numbers(f"{ndim}q", f"the shape of {what}")
    smallest = 0 if version == 3 else 1
    if any(dim < smallest for dim in shape):
        cursor.fail(f"each dimension of {what} must be known and at least {smallest}", shape)
    if ndim == 0 and version != 3:
        cursor.fail(f"{what} must have a shape; this one was never initialised", shape)
    device, device_id, code = cursor.numbers("iii", what)
    if device not in _DEVICES or device_id < 0:
        cursor.fail(f"{what} must come from a known device (type, number)", (device, device_id))
    if code not in DTYPES:
        cursor.fail(f"the type code of {what} must be one of {', '.join(map(str, DTYPES))}", code)
    length = math.prod(shape) * DTYPES[code].itemsize  # Python's integers do not overflow
    if length > cursor.remaining:
        cursor.fail(f"the data of {what} must fit in what remains of the file ({cursor.remaining} bytes)", shape)
    # Next to a dimension of zero, the others may still be too large for NumPy.
    if math.prod(max(dim, 1) for dim in shape) > MAX_FILE_BYTES:
        cursor.fail(f"the dimensions of {what} are too large", shape)
    block = _Block(cursor.handle.tell(), shape, DTYPES[code])
    cursor.handle.seek(length, os.SEEK_CUR)
    return block


def _read_name(cursor: _Cursor) -> str:
    (length,) = cursor.numbers("Q", "a name")
    if length > MAX_NAME_BYTES:
        cursor.fail(f"names must have at most {MAX_NAME_BYTES} bytes", length)
    data = cursor.bytes(length, "a name")
    try:
        name = data.decode("utf-8")
    except UnicodeDecodeError:
        cursor.fail("names must be UTF-8", data)
    for prefix in ("arg:", "aux:"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _load(cursor: _Cursor, block: _Block) -> Array:
    cursor.handle.seek(block.offset)
    count = math.prod(block.shape)
    data = np.fromfile(cursor.handle, dtype=block.dtype, count=count)
    if data.size != count:  # the file shrank since its size was taken
        cursor.fail("changed while it was read; this shape is no longer whole", block.shape)
    return data.reshape(block.shape).astype(block.dtype.newbyteorder("="), copy=False)
