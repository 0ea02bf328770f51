"""Writes vectors, with their rows or alone, as Parquet, JSON lines or one array in NumPy's file format."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.writer import Row, row_writer
from bort.errors import BortError, lines_of, packages_installed
from bort.files import write_aside

VectorFormat = Literal["parquet", "npy", "jsonl"]
_BY_SUFFIX: dict[str, VectorFormat] = {".parquet": "parquet", ".npy": "npy", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_DIGITS = 7
"""Significant digits of a number in JSON, as many as a float32 has."""
_TAKES_ANY = "JSON lines (.jsonl) take any"
WriteVectors = Callable[[Sequence[Row], NDArray[np.float32]], None]


def vector_format(path: str) -> VectorFormat:
    """Return the output format by the extension; JSON lines on standard output (`-`).

    Raises:
        BortError: The extension is unknown.
    """
    if path == "-":
        return "jsonl"
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise BortError(f"the extension must be one of {', '.join(_BY_SUFFIX)}", file=path, value=suffix)
    return _BY_SUFFIX[suffix]


@contextlib.contextmanager
def vector_writer(
    path: str, size: int, *, column: str = "embedding", types: Mapping[str, Any] | None = None
) -> Iterator[WriteVectors]:
    """Yield a function that writes rows with their vectors; a file appears, complete, when the block has ended.

    A vector of NaN means that there is none; JSON lines and Parquet have null instead.

    Args:
        path: A file, or - for standard output.
        size: Dimension of the vectors.
        column: Name of the vector column; it replaces a column of this name in the rows. An array has no columns.
        types: Arrow types of columns for Parquet (`parquet_types`); those of others are inferred from the first batch.

    Raises:
        BortError: The file cannot be written; or in Parquet, a column changes its type, is not in the first batch, or
            holds what Parquet has no type for.
    """
    path = str(Path(path).expanduser()) if path != "-" else path
    kind = vector_format(path)
    if kind == "jsonl":
        with row_writer(path, "jsonl") as write:
            yield lambda rows, vectors: _as_json(write, rows, vectors, column)
        return
    if Path(path).is_dir():
        raise BortError("is a folder; name a file", file=path)
    try:
        with write_aside(os.path.realpath(path), "wb") as out:  # replaces the target of a link, not the link
            writer = _Array(out, size) if kind == "npy" else _Parquet(out, path, size, column, types or {})
            try:
                yield writer.write
            finally:
                writer.close()  # also after an error, or pyarrow would try when it is garbage-collected
    except OSError as error:
        raise BortError(f"cannot be written: {error.strerror or error}", file=path) from None


def _as_json(write: Callable[[Row], None], rows: Sequence[Row], vectors: NDArray[np.float32], column: str) -> None:
    for row, vector in zip(rows, vectors, strict=True):
        values = None if np.isnan(vector[0]) else [float(f"{value:.{_DIGITS}g}") for value in vector.tolist()]
        write({**row, column: values})


class _Array:
    """A `.npy` file whose number of rows is known only at the end."""

    def __init__(self, out: IO[bytes], size: int) -> None:
        self._out, self._size, self._count = out, size, 0
        self._header()

    def write(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> None:
        """Append rows."""
        self._out.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        self._count += len(vectors)

    def close(self) -> None:
        """Rewrite the header; NumPy pads it, so its length does not depend on the number of rows."""
        self._out.seek(0)
        self._header()

    def _header(self) -> None:
        described = {"descr": "<f4", "fortran_order": False, "shape": (self._count, self._size)}
        np.lib.format.write_array_header_1_0(self._out, described)


class _Parquet:
    """A table of the rows' columns and the vectors; the first batch of rows sets the columns that have no type yet."""

    def __init__(self, out: IO[bytes], path: str, size: int, column: str, types: Mapping[str, Any]) -> None:
        with packages_installed(path):
            import pyarrow

        self._arrow, self._out, self._path, self._column, self._types = pyarrow, out, path, column, types
        self._vectors = pyarrow.list_(pyarrow.float32(), size)
        self._schema: Any = None
        self._writer: Any = None

    def write(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> None:
        """Append rows as a row group."""
        if self._writer is None:
            self._open(rows)
        known = {*self._schema.names, self._column}
        for name in (name for row in rows for name in row if name not in known):
            rule = f"first occurs after the file was begun; {_TAKES_ANY}"
            raise BortError(rule, file=self._path, column=name)
        flat = self._arrow.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        columns = [
            self._values(field, [row.get(field.name) for row in rows])
            for field in self._schema
            if field.name != self._column
        ]
        none = self._arrow.array(np.isnan(vectors[:, 0]))
        columns.append(self._arrow.FixedSizeListArray.from_arrays(flat, type=self._vectors, mask=none))
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Write the file's footer; without any rows the file has only the columns with given types and the vectors."""
        if self._writer is None:
            self._open([])
        self._writer.close()

    def _open(self, rows: Sequence[Row]) -> None:
        import pyarrow.parquet

        fields = []
        for name in dict.fromkeys([*(name for row in rows for name in row), *self._types]):
            if name == self._column:
                continue
            given = name in self._types
            kind = self._types[name] if given else self._values(None, [row.get(name) for row in rows], name).type
            # A column without values so far is stored as text.
            fields.append((name, self._arrow.string() if self._arrow.types.is_null(kind) else kind))
        self._schema = self._arrow.schema([*fields, (self._column, self._vectors)])
        try:
            self._writer = pyarrow.parquet.ParquetWriter(self._out, self._schema)
        except self._arrow.ArrowException as error:  # objects without fields
            rule = f"must hold values that Parquet has a type for ({lines_of(error)[0]}); {_TAKES_ANY}"
            raise BortError(rule, file=self._path) from None

    def _values(self, field: Any, values: list[Any], name: str = "") -> Any:
        try:
            if field is None:
                return self._arrow.array(values)
            if field.name not in self._types and self._arrow.types.is_nested(field.type):
                # Arrow drops the keys of an object that its type lacks.
                key = _unknown_key(self._arrow.array(values).type, field.type)
                if key is not None:
                    rule = f"has a key that first occurs after the file was begun; {_TAKES_ANY}"
                    raise BortError(rule, file=self._path, column=field.name, value=key)
            return self._arrow.array(values, field.type)
        except OverflowError:
            rule = f"must hold integers of at most 64 bits; {_TAKES_ANY}"
            raise BortError(rule, file=self._path, column=name or field.name) from None
        except self._arrow.ArrowException as error:
            rule = f"must hold values of one type ({lines_of(error)[0]}); {_TAKES_ANY}"
            raise BortError(rule, file=self._path, column=name or field.name) from None


def _unknown_key(kind: Any, known: Any) -> str | None:
    """The first key of objects in one Arrow type, at any depth, that another lacks."""
    import pyarrow

    fields = [(kind.field(place), place) for place in range(kind.num_fields)]
    if pyarrow.types.is_struct(known):
        if lacking := [field.name for field, _ in fields if known.get_field_index(field.name) < 0]:
            return str(lacking[0])
        fields = [(field, known.get_field_index(field.name)) for field, _ in fields]
    within = (_unknown_key(field.type, known.field(place).type) for field, place in fields if place < known.num_fields)
    return next((key for key in within if key is not None), None)
