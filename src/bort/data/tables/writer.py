"""Tables out: CSV, TSV or JSON lines, to a file or to standard output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from bort.errors import BortError
from bort.files import write_aside

Row = dict[str, Any]
OutputFormat = Literal["csv", "tsv", "jsonl"]
_BY_SUFFIX: dict[str, OutputFormat] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def output_format(path: str, asked: str = "auto") -> OutputFormat:
    """The format to write: as asked, by the extension, or JSON lines on standard output (`-`).

    Raises:
        BortError: An extension that stands for none.
    """
    if asked != "auto":
        return asked  # type: ignore[return-value]
    if path == "-":
        return "jsonl"
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise BortError(f"the extension must be one of {', '.join(_BY_SUFFIX)}, or give --output-format", file=path)
    return _BY_SUFFIX[suffix]


@contextlib.contextmanager
def row_writer(path: str, kind: OutputFormat) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes one row; a file appears when the block has ended without an exception.

    The first row's keys are the header of a table; a later row may lack some of them, and leaves their cells empty. In
    a table a truth value, a list or an object is written as JSON, and null as an empty cell. In TSV, tabs and line ends
    inside a cell become spaces.

    Raises:
        BortError: The file cannot be written, or a row of a table has a column that its first row has not.
    """
    with contextlib.ExitStack() as stack:
        with _told(path):
            file: IO[str] = stack.enter_context(_opened(path))
        write = _jsonl(file) if kind == "jsonl" else _table(file, kind, path)

        def guarded(row: Row) -> None:
            with _told(path):
                write(row)

        yield guarded
        with _told(path):
            file.flush()
            stack.close()


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Word what the system says of the output as bad input; a reader of standard output that has gone is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if path == "-" else path
        raise BortError(f"cannot be written: {error.strerror or error}", file=name) from None


def _opened(path: str) -> contextlib.AbstractContextManager[IO[str]]:
    if path == "-":
        if sys.stdout is None:
            raise BortError("is closed", file="standard output")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the terminal's own
        return contextlib.nullcontext(sys.stdout)
    if Path(path).is_dir():
        raise BortError("is a folder; name a file", file=path)
    if Path(path).exists() and not Path(path).is_file():
        return open(path, "w", encoding="utf-8", newline="\n")  # a device or a named pipe must not be replaced
    return write_aside(os.path.realpath(path))  # what a link leads to is replaced, not the link


def _jsonl(file: IO[str]) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    return write


def _table(file: IO[str], kind: Literal["csv", "tsv"], path: str) -> Callable[[Row], None]:
    line_of = _csv_line if kind == "csv" else _tsv_line
    header: dict[str, None] = {}
    count = 0

    def write(row: Row) -> None:
        nonlocal count
        count += 1
        if not header:
            header.update(dict.fromkeys(row))
            file.write(line_of(list(header)))
        for name in row:
            if name not in header:
                rule = f"row {count} has this column and the first row does not; give a .jsonl file, or complete rows"
                raise BortError(rule, file=None if path == "-" else path, column=name)
        file.write(line_of([_cell(row.get(name)) for name in header]))

    return write


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _csv_line(cells: list[str]) -> str:
    # The standard library's writer leaves a lone carriage return bare, which readers take for the end of the row.
    quoted = ['"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell for cell in cells]
    return (",".join(quoted) if quoted != [""] else '""') + "\n"


def _tsv_line(cells: list[str]) -> str:
    return "\t".join(cell.replace("\t", " ").replace("\n", " ").replace("\r", " ") for cell in cells) + "\n"
