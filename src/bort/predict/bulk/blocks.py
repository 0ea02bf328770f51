"""Read rows in blocks: valid rows with their example, invalid rows with their error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal

from bort.data.tables.examples import Columns, Example, every_row
from bort.data.tables.readers import Format
from bort.data.tables.writer import is_replaced, row_writer
from bort.errors import BortError
from bort.files import check_local, is_address

Row = dict[str, Any]
Block = list[tuple[Row, Example | BortError]]
"""Rows in order, each with its example or its error."""
Source = tuple[str | IO[bytes], str | None]
"""A path, a hub name or an open stream, and its name in messages, if different."""
OnError = Literal["stop", "skip", "label"]
"""What an unreadable row does: stop the job, be left out, or be kept without a label."""
ERRORS = ".errors.jsonl"
"""Suffix of the file next to an output with the rows that could not be read."""
_SHOWN_ERRORS = 5


class BadRows:
    """Counts the rows that could not be read, and writes them to a separate file.

    Args:
        on_error: What happens to them.
        output: The output file, or - for standard output.
        asked: JSON lines file, created at the first of them; None takes one next to an output file.
    """

    def __init__(self, on_error: OnError, output: str, asked: str | None) -> None:
        self.on_error, self.path = on_error, errors_path(output, on_error, asked)
        self._is_asked = asked is not None
        self.count = 0
        self.first: list[str] = []
        """Errors of the first few."""
        self._file = ExitStack()
        self._write: Callable[[Row], None] | None = None

    def __enter__(self) -> BadRows:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._file.__exit__(*error)

    def add(self, error: BortError, row: Row) -> None:
        """Record a row and its error."""
        self.count += 1
        if len(self.first) < _SHOWN_ERRORS:
            self.first.append(_worded(error))
        if self.path is not None:
            if self._write is None:
                self._write = self._file.enter_context(row_writer(self.path, "jsonl"))
            self._write({"line": error.line, "error": _worded(error), "row": row})

    def remove_earlier(self) -> None:
        """Remove the file that an earlier run left next to the output, if it is complete and all rows could be read.

        A file that the user has named is left alone.

        Raises:
            BortError: It cannot be removed.
        """
        if self.path is None or self._is_asked or self.count:
            return
        file = Path(self.path)
        try:
            if file.is_file():
                file.unlink()
        except OSError as error:
            raise BortError(f"cannot be removed: {error.strerror or error}", file=file) from None

    def told(self) -> Iterator[str]:
        """Messages for the user: the first errors, and the number of rows."""
        yield from bad_rows_told(self.on_error, self.count, self.first, self.path)


def bad_rows_told(on_error: OnError, count: int, first: Sequence[str], place: str | None) -> Iterator[str]:
    """Messages for the user about rows that could not be read.

    Args:
        on_error: What happened to them.
        count: Number of rows.
        first: Errors of the first few.
        place: File that has them; None if there is none.
    """
    yield from first[:_SHOWN_ERRORS]
    if count:
        what = "left out" if on_error == "skip" else "without an answer"
        kept = "" if place is None else f", see {place}"
        yield f"rows that cannot be read, {what}: {count:,}{kept}"


def check_on_error(on_error: OnError, errors: str | None, output: str, **columns: str) -> None:
    """Reject settings of unreadable rows that contradict each other.

    Args:
        on_error: What happens to such rows.
        errors: File for them.
        output: File for the other rows.
        columns: Name of the column of each setting, which must not be that of the reasons.

    Raises:
        BortError: The first conflict.
    """
    if errors is not None and on_error == "stop":
        raise BortError("needs --on-error skip or label", setting="errors", value=errors)
    if errors is not None:
        check_local("errors", errors)
        if os.path.realpath(errors) == os.path.realpath(output):
            raise BortError("must be another file than --output", setting="errors", value=errors)
    for setting, column in columns.items():
        if on_error == "label" and column == "error":
            rule = "must be another column: --on-error label writes the reasons into this one"
            raise BortError(rule, setting=setting, value=column)


def errors_path(output: str, on_error: OnError, asked: str | None) -> str | None:
    """Where rows that cannot be read are written: as requested, next to an output file, or nowhere.

    Nothing stands next to what is no file, such as standard output or a named pipe.
    """
    if on_error == "stop":
        return None
    return asked or (output + ERRORS if is_address(output) or is_replaced(output) else None)


def read_blocks(
    sources: Iterable[Source], columns: Columns, form: Format | None, bad: BadRows, *, rows: int
) -> Iterator[Block]:
    """Read sources in order, in blocks that may span several sources.

    Args:
        sources: Sources to read.
        columns: Names of the columns.
        form: Format of the rows; by default from the file extension.
        bad: Collects the invalid rows.
        rows: Rows per block; the last block may have fewer.

    Raises:
        BortError: While iterating, as in `every_row`; for invalid rows, only if these stop the job.
    """
    block: Block = []
    for source, name in sources:
        for row, example in every_row(source, columns, format=form, lenient=bad.on_error != "stop", name=name):
            if isinstance(example, BortError):
                bad.add(example, row)
                if bad.on_error == "skip":
                    continue
            block.append((row, example))
            if len(block) >= rows:
                yield block
                block = []
    if block:
        yield block


def _worded(error: BortError) -> str:
    """The text of an error; it names a file, whose name may be no valid Unicode."""
    return str(error).encode("utf-8", "backslashreplace").decode("utf-8")


def examples_of(block: Block) -> list[Example]:
    """The examples of the rows that could be read."""
    return [example for _, example in block if isinstance(example, Example)]


def unread(row: Row, text: str, error: BortError, added: Iterable[str]) -> Row:
    """The output row for a row that could not be read: its columns, empty added columns, and the error.

    Args:
        row: Its cells by column, or its original content as `raw`.
        text: Name of the text column.
        error: Its error.
        added: Names of the columns of an answer.
    """
    kept = {text: row["raw"]} if list(row) == ["raw"] else row
    return {**kept, **dict.fromkeys(added), "error": _worded(error)}
