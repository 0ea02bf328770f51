"""Tables out: CSV, TSV or JSON lines, to a file or to standard output."""

from __future__ import annotations

import contextlib
import csv
import json
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
        raise BortError(f"the extension must be one of {', '.join(_BY_SUFFIX)}, or give --output_format", file=path)
    return _BY_SUFFIX[suffix]


@contextlib.contextmanager
def row_writer(path: str, kind: OutputFormat) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes one row; a file appears when the block has ended without an exception.

    The first row's keys are the header of a table. In TSV, tabs and line ends inside a cell become spaces.
    """
    with contextlib.ExitStack() as stack:
        file: IO[str]
        if path == "-":
            file = sys.stdout
        else:
            try:
                file = stack.enter_context(write_aside(path))
            except OSError as error:
                raise BortError(f"cannot be written: {error.strerror}", file=path) from None
        yield _jsonl(file) if kind == "jsonl" else _table(file, kind)
        file.flush()


def _jsonl(file: IO[str]) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    return write


def _table(file: IO[str], kind: OutputFormat) -> Callable[[Row], None]:
    writer: csv.DictWriter[str] | None = None

    def write(row: Row) -> None:
        nonlocal writer
        if writer is None:
            settings: dict[str, Any] = {"lineterminator": "\n", "extrasaction": "ignore"}
            if kind == "tsv":
                settings |= {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
            writer = csv.DictWriter(file, fieldnames=list(row), **settings)
            writer.writeheader()
        if kind == "tsv":
            row = {
                name: " ".join(str(cell).split("\t")).replace("\n", " ").replace("\r", " ")
                for name, cell in row.items()
            }
        writer.writerow(row)

    return write
