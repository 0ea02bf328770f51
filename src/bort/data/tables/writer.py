"""Writes tables as CSV, TSV or JSON lines, to a file or to standard output."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from bort.data.tables.lines import LONGEST_ROW_BYTES
from bort.errors import BortError
from bort.files import write_aside
from bort.progress import say

Row = dict[str, Any]
OutputFormat = Literal["csv", "tsv", "jsonl"]
_DESCRIPTOR = re.compile(r"/dev/(stdin|stdout|stderr)|(?:/dev|/proc/self)/fd/([0-9]+)")
_BY_SUFFIX: dict[str, OutputFormat] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def output_format(path: str, asked: str = "auto") -> OutputFormat:
    """Return the output format: as requested, by the extension, or JSON lines on standard output (`-`).

    Raises:
        BortError: The extension is unknown.
    """
    if asked != "auto":
        return asked  # type: ignore[return-value]
    if path == "-":
        return "jsonl"
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise BortError(f"the extension must be one of {', '.join(_BY_SUFFIX)}, or give --output-format", file=path)
    return _BY_SUFFIX[suffix]


def is_replaced(path: str) -> bool:
    """Whether an output is a file that appears when it is complete; not standard output, a device or a named pipe."""
    path = str(Path(path).expanduser())
    return path != "-" and not _DESCRIPTOR.fullmatch(path) and (Path(path).is_file() or not Path(path).exists())


@contextlib.contextmanager
def row_writer(path: str, kind: OutputFormat) -> Iterator[Callable[[Row], None]]:
    """Yield a function that writes one row; a file appears when the block has ended without an exception.

    The keys of the first row are the header of a table; keys that a later row lacks leave empty cells. Columns that
    later rows add come last in a file; on standard output, whose header is already written, they are left out with a
    note. In a table, booleans, lists and objects are written as JSON, and null as an empty cell. In TSV, tabs and line
    ends inside a cell become spaces. NaN is written as null; so are infinities in JSON.

    Raises:
        BortError: The file cannot be written.
    """
    path = str(Path(path).expanduser())
    with contextlib.ExitStack() as stack:
        with _told(path):
            opened, whole = _opened(path)
            file: IO[str] = stack.enter_context(opened)
        table = None if kind == "jsonl" else _Table(file, kind, may_grow=whole)
        write = _jsonl(file) if table is None else table.write

        def guarded(row: Row) -> None:
            with _told(path):
                write(row)

        yield guarded
        with _told(path):
            if table is not None:
                table.complete()
            file.flush()
            stack.close()


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn system errors about the output into a `BortError`, except for a broken pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if path == "-" else path
        raise BortError(f"cannot be written: {error.strerror or error}", file=name) from None
    except RecursionError:
        raise BortError("cannot be written: a value holds too many lists or objects in each other", file=path) from None


def _opened(path: str) -> tuple[contextlib.AbstractContextManager[IO[str]], bool]:
    """Open an output; also return whether it is a temporary file, which can still be rewritten."""
    if path == "-":
        if sys.stdout is None:
            raise BortError("is closed", file="standard output")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the terminal's encoding
        return contextlib.nullcontext(sys.stdout), False
    if descriptor := _DESCRIPTOR.fullmatch(path):
        # The shell has opened it, perhaps to append: the file behind it must not be replaced.
        number = int(descriptor[2] or {"stdin": 0, "stdout": 1, "stderr": 2}[descriptor[1]])
        return os.fdopen(os.dup(number), "w", encoding="utf-8", newline="\n"), False
    if Path(path).is_dir():
        raise BortError("is a folder; name a file", file=path)
    if not is_replaced(path):
        # A device or a named pipe must not be replaced.
        return open(path, "w", encoding="utf-8", newline="\n"), False
    return write_aside(os.path.realpath(path), "w+"), True  # replaces the target of a link, not the link


def _jsonl(file: IO[str]) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        file.write(_json(row) + "\n")

    return write


def _json(value: Any) -> str:
    """A value as JSON; numbers that it cannot represent become null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        whole = json.dumps(value, ensure_ascii=False, default=str)
        return json.dumps(json.loads(whole, parse_constant=lambda _: None), ensure_ascii=False)


class _Table:
    """A table whose header may grow if the file can be rewritten."""

    def __init__(self, file: IO[str], kind: Literal["csv", "tsv"], *, may_grow: bool) -> None:
        self._file, self._kind, self._may_grow = file, kind, may_grow
        self._line_of = _csv_line if kind == "csv" else _tsv_line
        self._header: list[str] = []
        self._known: set[str] = set()
        self._late: dict[str, int] = {}
        self._count = 0

    def write(self, row: Row) -> None:
        """Write a row, preceded by the header if it is the first."""
        self._count += 1
        if self._count == 1:
            self._header = list(row)
            self._known.update(row)
            self._file.write(self._line_of(self._header))
        for name in row:
            if name not in self._known:
                self._known.add(name)
                self._late[name] = self._count
        names = [*self._header, *self._late] if self._may_grow else self._header
        self._file.write(self._line_of([_cell(row.get(name)) for name in names]))

    def complete(self) -> None:
        """Add late columns to the header, with empty cells in earlier rows."""
        if not self._late:
            return
        if not self._may_grow:
            shown = ", ".join(f"{name!r} (row {row})" for name, row in list(self._late.items())[:5])
            say(f"columns that the first row lacks are left out: {shown}; JSON lines keep them")
            return
        names = [*self._header, *self._late]
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as whole:
            self._file.seek(0)
            csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW_BYTES))
            rows = csv.reader(self._file) if self._kind == "csv" else (line[:-1].split("\t") for line in self._file)
            next(rows)
            whole.write(self._line_of(names))
            for cells in rows:
                cells = cells or [""]
                whole.write(self._line_of([*cells, *[""] * (len(names) - len(cells))]))
            whole.seek(0)
            self._file.seek(0)
            self._file.truncate()
            shutil.copyfileobj(whole, self._file)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool | list | dict):
        return _json(value)
    return str(value)


def _csv_line(cells: list[str]) -> str:
    # The standard library's writer does not quote a lone carriage return, which readers take for the end of the row.
    quoted = ['"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell for cell in cells]
    return (",".join(quoted) if quoted != [""] else '""') + "\n"


def _tsv_line(cells: list[str]) -> str:
    return "\t".join(cell.replace("\t", " ").replace("\n", " ").replace("\r", " ") for cell in cells) + "\n"
