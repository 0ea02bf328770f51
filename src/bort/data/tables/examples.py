"""Reads labelled and unlabelled texts from any table, and checks each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bort.data.tables.labels import Label, misfits, read_label, whole_numbers
from bort.errors import BortError

if TYPE_CHECKING:
    from bort.data.tables.readers import Format


@dataclass(frozen=True, slots=True)
class Example:
    """A text, a pair of texts, or a text with several choices, and its label if known.

    Attributes:
        text: The text, or the first of a pair.
        text_b: The second of a pair.
        label: A class name, a number, a tuple of class names (multi-label), or None if unknown.
        source: File or data set it came from; equality ignores it.
        line: Line there, from 1 (row for Parquet and the hub); equality ignores it.
        choices: Candidate second texts, one of them correct; its index is the label, and there is no `text_b`.
    """

    text: str
    text_b: str | None = None
    label: Label | None = None
    source: str = field(default="", compare=False)
    line: int | None = field(default=None, compare=False)
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Columns of a table that hold its examples."""

    text: str = "text"
    """Column of the text, or of the first text of a pair."""
    text_b: str = "text_b"
    """Column of the second text of a pair; a table without it holds single texts."""
    label: str | Sequence[str] = "label"
    """Column of the label, or, for multi-label data, several columns of 0 and 1, one per label."""
    delimiter: str | None = None
    """Cell separator of CSV or TSV: a character, or comma, semicolon, tab, pipe; None to detect it."""
    label_separator: str | None = None
    """Separator of several labels in one cell of the label column; None if cells hold one label or lists."""
    pairs: bool = True
    """Whether second texts are read."""

    def __post_init__(self) -> None:
        """Refuse an empty set of label columns, one with a column twice, and an empty separator."""
        if not self.labels:
            raise BortError("must name a column", setting="label", value=self.label)
        if len({*self.labels}) < len(self.labels):
            raise BortError("must name each column once", setting="label", value=self.label)
        if self.label_separator == "":
            raise BortError("must not be empty", setting="label_separator", value="")

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    def check_apart(self) -> None:
        """Refuse a label column that is also a text column; needed only where labels are read or written.

        Raises:
            BortError: The first such column.
        """
        for column in self.labels:
            if column in (self.text, self.text_b):
                raise BortError("must be another column than the text's", setting="label", value=column)


_DEFAULT_COLUMNS = Columns()


def read_examples(source: str | Path, columns: Columns = _DEFAULT_COLUMNS, *, labelled: bool = True) -> list[Example]:
    """Read all examples of a file or a hub data set.

    The extension sets the format: .csv, .tsv (without quoting), .jsonl, .ndjson or .json (one object per line), .txt
    (one text per line, unlabelled), each also compressed (gzip, bzip2, xz, zstd); or .parquet. Hub data sets are named
    `owner/name:split` or `owner/name@config:split`; their class labels become names. A blank second text counts as
    none. Whitespace around labels is stripped; integers and booleans become strings ("1", "true"). If some rows of JSON
    lines, Parquet or the hub are labelled 1 and others 1.0, all become "1"; cells of CSV and TSV stay as they are
    written. A list of labels, several labels in one cell (`Columns.label_separator`) and columns of 0 and 1 (several of
    `Columns.label`) become a sorted tuple, empty if a row has no label.

    Args:
        source: The path or the hub name.
        columns: Names of the columns.
        labelled: Whether each row must have a label and a text; otherwise labels are not read, and texts may be empty.

    Raises:
        BortError: The input breaks a rule; the error names the file, line, column, value and rule.
    """
    examples = [example for _, example in stream_rows(source, columns, labelled=labelled)]
    return whole_table(examples, str(source), columns, labelled)


def whole_table(examples: list[Example], source: str, columns: Columns, labelled: bool) -> list[Example]:
    """Check a table as a whole, and unify labels such as 1 and 1.0.

    Args:
        examples: All examples of the table.
        source: Name of the table.
        columns: Names of the columns.
        labelled: Whether the rows have labels.

    Raises:
        BortError: The table is empty, or mixes "nan" with numbers or single labels with lists.
    """
    if not examples:
        raise BortError("is empty; there must be at least one row", file=source)
    if labelled:
        for _, error in misfits(examples, columns.labels[0]):
            raise error
        examples = whole_numbers(examples)
    return examples


def stream_rows(
    source: str | Path | IO[bytes],
    columns: Columns = _DEFAULT_COLUMNS,
    *,
    format: Format | None = None,
    labelled: bool = False,
    on_bad: Callable[[BortError, dict[str, Any]], None] | None = None,
) -> Iterator[tuple[dict[str, Any], Example]]:
    """Yield examples one by one with the rows they came from, in bounded memory.

    An empty source yields nothing and is not an error.

    Args:
        source: A path, a hub name, or an open binary stream such as `sys.stdin.buffer`.
        columns: Names of the columns.
        format: Format of the rows; required for a stream, otherwise set by the extension.
        labelled: As in `read_examples`.
        on_bad: Receives each row that breaks a rule, as `every_row` yields it; without it, the first one is an error.

    Returns:
        Pairs of the original row, with all its columns, and its example.

    Raises:
        BortError: While iterating, at the first row that breaks a rule, and for errors that affect the whole source.
    """
    rows = every_row(source, columns, format=format, labelled=labelled, lenient=on_bad is not None)
    for row, example in rows:
        if isinstance(example, Example):
            yield row, example
        elif on_bad is not None:
            on_bad(example, row)


def every_row(
    source: str | Path | IO[bytes],
    columns: Columns = _DEFAULT_COLUMNS,
    *,
    format: Format | None = None,
    labelled: bool = False,
    lenient: bool = True,
    name: str | None = None,
) -> Iterator[tuple[dict[str, Any], Example | BortError]]:
    """Yield examples as `stream_rows` does, and in their places the rows that break a rule, with their error.

    Args:
        source: As in `stream_rows`, like `columns`, `format` and `labelled`.
        columns: Names of the columns.
        format: Format of the rows.
        labelled: Whether rows have labels.
        lenient: Whether to go on after a row that breaks a rule; otherwise the first one is an error.
        name: Name of the source in error messages; by default its own.

    Returns:
        Pairs of the original row and its example or error; a row without cells has its text as `raw`.

    Raises:
        BortError: While iterating, for errors that affect the whole source, and at a bad row unless `lenient`.
    """
    # Imported here because a predictor that is given texts never reads a file.
    from bort.data.tables.delimited import QuotesInTsv, delimiter_of
    from bort.data.tables.readers import format_of, numbered_rows

    if isinstance(source, str | Path):
        file, kind = name or str(source), format or format_of(source)
    else:
        own = name or getattr(source, "name", None)
        file = own if isinstance(own, str) else "<stream>"
        if format is None:
            raise BortError("a stream has no extension; name its format: csv, tsv, jsonl or txt", file=file)
        kind = format
    if labelled:
        columns.check_apart()
    if labelled and kind == "txt":
        raise BortError("plain text has no labels; give CSV, TSV, JSON lines or Parquet", file=file)
    # The column of second texts is required if the user names it, and optional under its default name.
    pair = [columns.text_b] if columns.text_b != Columns.text_b and kind != "txt" else []
    required = [columns.text, *pair, *(columns.labels if labelled else [])]
    first: Example | None = None
    quotes = QuotesInTsv()
    delimiter = delimiter_of(columns.delimiter)
    rows = numbered_rows(source, kind, file, required=required, text=columns.text, delimiter=delimiter, lenient=lenient)
    for line, row in rows:
        if isinstance(line, BortError):
            yield row, line
            continue
        # Spreadsheets write rows of empty cells after the last one.
        if labelled and kind in ("csv", "tsv") and not any(map(str.strip, row.values())):
            continue
        try:
            example = read_row(row, columns, labelled, file, line)
            first = first or example
            if labelled and (example.text_b is None) != (first.text_b is None):
                has, lacks = (first.line, line) if example.text_b is None else (line, first.line)
                rule = f"must be in every row or in none; line {has} has it and line {lacks} does not"
                raise BortError(rule, file=file, line=line, column=columns.text_b, value=row.get(columns.text_b))
        except BortError as error:
            if not lenient:
                raise
            yield row, error
            continue
        quotes.see(example.text)
        yield row, example
    if kind == "tsv":
        quotes.tell(file)


def read_row(row: dict[str, Any], columns: Columns, labelled: bool, file: str, line: int) -> Example:
    """Turn one row into an example.

    Args:
        row: Cells by column.
        columns: Names of the columns.
        labelled: Whether a label and a text are required.
        file: Name of the source.
        line: Line or row number there.

    Raises:
        BortError: The row breaks a rule.
    """

    def refuse(rule: str, column: str) -> BortError:
        return BortError(rule, file=file, line=line, column=column, value=row[column])

    def text_of(column: str) -> str:
        value = row[column]
        if not isinstance(value, str):
            raise refuse("must be a string", column)
        if "\0" in value:
            raise refuse("must not hold NUL characters", column)
        return value

    text = text_of(columns.text)
    if labelled and not text.strip():
        raise refuse("must not be blank", columns.text)
    text_b = text_of(columns.text_b) if columns.pairs and row.get(columns.text_b) is not None else None
    label = read_label(row, columns, file, line) if labelled else None
    return Example(text, second_text(text_b), label, file, line)


def second_text(text: str | None) -> str | None:
    """Return a pair's second text; None for a blank one, as its first is then a single text."""
    return text if text is not None and text.strip() else None
