"""Labelled and unlabelled texts: read from any table, checked row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bort.data.tables.labels import Label, check_forms, check_numbers, read_label, whole_numbers
from bort.errors import BortError

if TYPE_CHECKING:
    from bort.data.tables.delimited import OnBad
    from bort.data.tables.readers import Format


@dataclass(frozen=True, slots=True)
class Example:
    """One text, a pair of texts, or a text with several to choose from, and what is known of it.

    Attributes:
        text: The text, or the first of a pair.
        text_b: The second of a pair.
        label: A class by name, a number, a tuple of names (multi-label), or None where it is not known.
        source: File or data set it came from; equality ignores it.
        line: Line there, from 1 (row for Parquet and the hub); equality ignores it.
        choices: Second texts of which one is right, its index being the label; no `text_b` then.
    """

    text: str
    text_b: str | None = None
    label: Label | None = None
    source: str = field(default="", compare=False)
    line: int | None = field(default=None, compare=False)
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Where a table keeps its examples."""

    text: str = "text"
    """Column of the text, or of the first text of a pair."""
    text_b: str = "text_b"
    """Column of the second text of a pair; a table without it holds single texts."""
    label: str | Sequence[str] = "label"
    """Column of the label; or several columns of 0 and 1, one for each label of multi-label data."""
    delimiter: str | None = None
    """What stands between the cells of CSV or TSV: a character, or comma, semicolon, tab, pipe; None to find it out."""
    label_separator: str | None = None
    """What stands between several labels of one text in the label's column; None where it holds one label, or lists."""

    def __post_init__(self) -> None:
        """Refuse to read labels from nowhere."""
        if not self.labels:
            raise BortError("must name a column", setting="label", value=self.label)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of labels."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)


_DEFAULT_COLUMNS = Columns()


def read_examples(source: str | Path, columns: Columns = _DEFAULT_COLUMNS, *, labelled: bool = True) -> list[Example]:
    """Read all examples of a file or of a data set on the hub.

    Formats go by extension: .csv, .tsv (without quoting), .jsonl, .ndjson or .json (one object on each line), .txt (one
    text on each line, unlabelled), each also compressed (gzip, bzip2, xz, zstd); .parquet; and `owner/name:split` or
    `owner/name@config:split` for the hub, whose class labels become their names. A blank second text counts as none.
    Labels lose the space around them; integers and truth values become strings ("1", "true"). Where numbers label some
    rows as 1 and others as 1.0, all become "1". A list of labels, several in one cell (`Columns.label_separator`), and
    columns of 0 and 1 (several of `Columns.label`) become a sorted tuple, which is empty where a row has none.

    Args:
        source: The path or the hub name.
        columns: Names of the columns.
        labelled: Whether each row must have a label and a text; otherwise labels are not read, and texts may be empty.

    Raises:
        BortError: Something is wrong with the input; names the file, the line, the column, the value and the rule.
    """
    examples = [example for _, example in stream_rows(source, columns, labelled=labelled)]
    return whole_table(examples, str(source), columns, labelled)


def whole_table(examples: list[Example], source: str, columns: Columns, labelled: bool) -> list[Example]:
    """Check and mend what is no matter of single rows: that there are any, and that their numbers go together.

    Args:
        examples: All that a table holds.
        source: Its name.
        columns: Names of the columns.
        labelled: Whether the rows have labels.

    Raises:
        BortError: There are none, "nan" stands among numbers, or single labels among lists of them.
    """
    if not examples:
        raise BortError("is empty; there must be at least one row", file=source)
    if labelled:
        check_forms(examples, columns.labels[0])
        check_numbers(examples, columns.labels[0])
        examples = whole_numbers(examples)
    return examples


def stream_rows(
    source: str | Path | IO[bytes],
    columns: Columns = _DEFAULT_COLUMNS,
    *,
    format: Format | None = None,
    labelled: bool = False,
    on_bad: OnBad | None = None,
    name: str | None = None,
) -> Iterator[tuple[dict[str, Any], Example]]:
    """Read examples one by one beside the rows that they came from, in bounded memory.

    An empty source has no rows and breaks no rule.

    Args:
        source: A path, a hub name, or an open binary stream such as `sys.stdin.buffer`.
        columns: Names of the columns.
        format: The format of the rows; needed for a stream, told by the extension otherwise.
        labelled: As in `read_examples`.
        on_bad: Takes each row that breaks a rule, in its place among the others; without it the first one is refused.
        name: What messages call the source; by default its own name.

    Returns:
        Pairs of the row as it stood, with all its columns, and its example.

    Raises:
        BortError: While iterating, at the first row that breaks a rule, and at what is no matter of single rows.
    """
    # A predictor that is given texts never reads a file.
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
    if labelled and kind == "txt":
        raise BortError("plain text has no labels; give CSV, TSV, JSON lines or Parquet", file=file)
    # A second text that was asked for by name must be there; under its default name it is optional.
    pair = [columns.text_b] if columns.text_b != Columns.text_b and kind != "txt" else []
    required = [columns.text, *pair, *(columns.labels if labelled else [])]
    first: Example | None = None
    quotes = QuotesInTsv()
    delimiter = delimiter_of(columns.delimiter)
    rows = numbered_rows(source, kind, file, required=required, text=columns.text, delimiter=delimiter, on_bad=on_bad)
    for line, row in rows:
        # Spreadsheets write rows of empty cells behind the last one.
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
            if on_bad is None:
                raise
            on_bad(error, row)
            continue
        quotes.see(example.text)
        yield row, example
    if kind == "tsv":
        quotes.tell(file)


def read_row(row: dict[str, Any], columns: Columns, labelled: bool, file: str, line: int) -> Example:
    """Make an example of one row.

    Args:
        row: Cells by column.
        columns: Names of the columns.
        labelled: Whether there must be a label and a text.
        file: Where it came from.
        line: Its place there.

    Raises:
        BortError: It breaks a rule.
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
    text_b = None if row.get(columns.text_b) is None else text_of(columns.text_b)
    if text_b is not None and not text_b.strip():
        text_b = None
    label = read_label(row, columns, file, line) if labelled else None
    return Example(text, text_b, label, file, line)
