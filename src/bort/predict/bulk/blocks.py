"""Rows in blocks: those that can be read with their example, those that cannot with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any, Literal

from bort.data.tables.examples import Columns, Example, stream_rows
from bort.data.tables.readers import Format
from bort.data.tables.writer import row_writer
from bort.errors import BortError

Row = dict[str, Any]
Block = list[tuple[Row, Example | BortError]]
"""Rows in their order, each with its example, or with why it has none."""
Source = tuple[str | IO[bytes], str | None]
"""A path, a hub name or an open stream, and what messages call it where that is another name."""
OnError = Literal["stop", "skip", "label"]
"""What a row that cannot be read does: it ends the job, it is left out, or it is kept without an answer."""
ERRORS = ".errors.jsonl"
"""Behind the name of an output: the rows that could not be read."""
_SHOWN_ERRORS = 5


class BadRows:
    """Counts the rows that could not be read, and keeps them in a file of their own.

    Args:
        on_error: What becomes of them.
        path: JSON lines file, made with the first of them; None keeps none.
    """

    def __init__(self, on_error: OnError, path: str | None) -> None:
        self.on_error, self.path = on_error, path
        self.count = 0
        self.first: list[str] = []
        """What is wrong with the first few."""
        self._file = ExitStack()
        self._write: Callable[[Row], None] | None = None

    def __enter__(self) -> BadRows:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._file.__exit__(*error)

    def add(self, error: BortError, row: Row) -> None:
        """Take a row and what is wrong with it."""
        self.count += 1
        if len(self.first) < _SHOWN_ERRORS:
            self.first.append(str(error))
        if self.path is not None:
            if self._write is None:
                self._write = self._file.enter_context(row_writer(self.path, "jsonl"))
            self._write({"line": error.line, "error": str(error), "row": row})

    def told(self) -> Iterator[str]:
        """Lines for a person: how many there were, with the first of them."""
        yield from bad_rows_told(self.on_error, self.count, self.first, self.path)


def bad_rows_told(on_error: OnError, count: int, first: Sequence[str], place: str | None) -> Iterator[str]:
    """Lines for a person about rows that could not be read.

    Args:
        on_error: What became of them.
        count: How many there were.
        first: What is wrong with the first few.
        place: Where they are kept; None where they are not.
    """
    yield from first[:_SHOWN_ERRORS]
    if count:
        what = "left out" if on_error == "skip" else "without an answer"
        kept = "" if place is None else f", see {place}"
        yield f"rows that cannot be read, {what}: {count:,}{kept}"


def errors_path(output: str, on_error: OnError, asked: str | None) -> str | None:
    """Where rows that cannot be read are kept: as asked, beside an output file, or nowhere."""
    if on_error == "stop":
        return None
    return asked or (None if output == "-" else output + ERRORS)


def read_blocks(
    sources: Iterable[Source], columns: Columns, form: Format | None, bad: BadRows, *, rows: int
) -> Iterator[Block]:
    """Read sources one after another, in blocks that go on from one source to the next.

    Args:
        sources: What is read.
        columns: Names of the columns.
        form: Format of the rows; by default the extension tells it.
        bad: Takes the rows that break a rule.
        rows: Of a block, at most; the last one has fewer.

    Raises:
        BortError: While iterating, as of `stream_rows`; of single rows only where these end the job.
    """
    block: Block = []

    def on_bad(error: BortError, row: Row) -> None:
        bad.add(error, row)
        if bad.on_error == "label":
            block.append((row, error))

    takes_bad = None if bad.on_error == "stop" else on_bad
    for source, name in sources:
        for row, example in stream_rows(source, columns, format=form, on_bad=takes_bad, name=name):
            block.append((row, example))
            if len(block) >= rows:
                yield block
                block = []
    if block:
        yield block


def examples_of(block: Block) -> list[Example]:
    """Those of the rows that can be read."""
    return [example for _, example in block if isinstance(example, Example)]


def unread(row: Row, text: str, error: BortError, added: Iterable[str]) -> Row:
    """A row that cannot be read as it is written: its columns, none of the added ones, and what is wrong.

    Args:
        row: Its cells by column, or as `raw` what stood there.
        text: Column of the text.
        error: What is wrong.
        added: Columns of an answer.
    """
    kept = {text: row["raw"]} if list(row) == ["raw"] else row
    return {**kept, **dict.fromkeys(added), "error": str(error)}
