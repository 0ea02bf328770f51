"""Labelled and unlabelled texts: read from any table, checked row by row, their labels turned into targets."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from bort.errors import BortError

if TYPE_CHECKING:
    from bort.data.tables.delimited import OnBad
    from bort.data.tables.readers import Format

Kind = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Example:
    """One text, a pair of texts, or a text with several to choose from, and what is known of it.

    Attributes:
        text: The text, or the first of a pair.
        text_b: The second of a pair.
        label: A class by name, a number, or None where it is not known.
        source: File or data set it came from; equality ignores it.
        line: Line there, from 1 (row for Parquet and the hub); equality ignores it.
        choices: Second texts of which one is right, its index being the label; no `text_b` then.
    """

    text: str
    text_b: str | None = None
    label: str | float | None = None
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
    label: str = "label"
    """Column of the label."""
    delimiter: str | None = None
    """What stands between the cells of CSV or TSV: a character, or comma, semicolon, tab, pipe; None to find it out."""


_DEFAULT_COLUMNS = Columns()


def read_examples(source: str | Path, columns: Columns = _DEFAULT_COLUMNS, *, labelled: bool = True) -> list[Example]:
    """Read all examples of a file or of a data set on the hub.

    Formats go by extension: .csv, .tsv (without quoting), .jsonl, .ndjson or .json (one object on each line), .txt (one
    text on each line, unlabelled), each also compressed (gzip, bzip2, xz, zstd); .parquet; and `owner/name:split` or
    `owner/name@config:split` for the hub, whose class labels become their names. A blank second text counts as none.
    Labels lose the space around them; integers and truth values become strings ("1", "true"). Where numbers label some
    rows as 1 and others as 1.0, all become "1".

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
        BortError: There are none, or "nan" stands among numbers.
    """
    if not examples:
        raise BortError("is empty; there must be at least one row", file=source)
    if labelled:
        _check_numbers(examples, columns)
        examples = _whole_numbers(examples)
    return examples


def stream_rows(
    source: str | Path | IO[bytes],
    columns: Columns = _DEFAULT_COLUMNS,
    *,
    format: Format | None = None,
    labelled: bool = False,
    on_bad: OnBad | None = None,
) -> Iterator[tuple[dict[str, Any], Example]]:
    """Read examples one by one beside the rows that they came from, in bounded memory.

    An empty source has no rows and breaks no rule.

    Args:
        source: A path, a hub name, or an open binary stream such as `sys.stdin.buffer`.
        columns: Names of the columns.
        format: The format of the rows; needed for a stream, told by the extension otherwise.
        labelled: As in `read_examples`.
        on_bad: Takes each row that breaks a rule, in its place among the others; without it the first one is refused.

    Returns:
        Pairs of the row as it stood, with all its columns, and its example.

    Raises:
        BortError: While iterating, at the first row that breaks a rule, and at what is no matter of single rows.
    """
    # A predictor that is given texts never reads a file.
    from bort.data.tables.delimited import QuotesInTsv, delimiter_of
    from bort.data.tables.readers import format_of, numbered_rows

    if isinstance(source, str | Path):
        file, kind = str(source), format or format_of(source)
    else:
        name = getattr(source, "name", None)
        file = name if isinstance(name, str) else "<stream>"
        if format is None:
            raise BortError("a stream has no extension; name its format: csv, tsv, jsonl or txt", file=file)
        kind = format
    if labelled and kind == "txt":
        raise BortError("plain text has no labels; give CSV, TSV, JSON lines or Parquet", file=file)
    # A second text that was asked for by name must be there; under its default name it is optional.
    pair = [columns.text_b] if columns.text_b != Columns.text_b and kind != "txt" else []
    required = [columns.text, *pair, *([columns.label] if labelled else [])]
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
    label: str | float | None = None
    if labelled:
        value = row[columns.label]
        if value is None or (isinstance(value, str) and not value.strip()):
            raise refuse("a label must not be missing", columns.label)
        if not isinstance(value, str | int | float):
            raise refuse("a label must be a string, a number or a truth value", columns.label)
        if isinstance(value, str):
            label = text_of(columns.label).strip()
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise refuse("a label must be a finite number", columns.label)
            label = value
        else:
            label = str(value).lower()
    return Example(text, text_b, label, file, line)


def _check_numbers(examples: Sequence[Example], columns: Columns) -> None:
    """Refuse "nan" and its like among numbers; among words it is a class (the language code of Min Nan Chinese)."""
    numbers = [parse_number(example.label) for example in examples]
    if any(number is not None and math.isfinite(number) for number in numbers) and None not in numbers:
        for example, number in zip(examples, numbers, strict=True):
            if number is not None and not math.isfinite(number):
                raise _refuse_label("a label must be a finite number", example, column=columns.label)


def _whole_numbers(examples: Sequence[Example]) -> list[Example]:
    """Let 1.0 be the class 1 where numbers label other rows 1, as JSON knows no difference between them."""
    names = {example.label for example in examples if isinstance(example.label, str)}
    return [
        replace(example, label=name)
        if isinstance(example.label, float) and (name := plain_number(str(example.label))) in names
        else example
        for example in examples
    ]


def named_labels(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Give a label that is none of `names`, but writes the number of just one of them, that name."""
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(plain_number(name), []).append(name)
    known = {*names}

    def named(example: Example) -> Example:
        alike = plain.get(plain_number(str(example.label)), [])
        return example if str(example.label) in known or len(alike) != 1 else replace(example, label=alike[0])

    return [named(example) for example in examples]


def plain_number(name: str) -> str:
    """Write a whole number without the `.0` that some programs append; anything else stays as it is."""
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", name)


def parse_number(label: str | float | None) -> float | None:
    """Parse a number, also a non-finite one; None where there is none."""
    # Python's own "1_000" is a name rather than a number in a table.
    if label is None or (isinstance(label, str) and "_" in label):
        return None
    try:
        return float(label)
    except ValueError:
        return None


def _refuse_label(rule: str, example: Example, *, column: str = "label") -> BortError:
    return BortError(rule, file=example.source or None, line=example.line, column=column, value=example.label)


def infer_kind(examples: Sequence[Example]) -> Kind:
    """Tell regression from classification by the labels.

    Regression is where every label parses as a finite number and at least one is no integer.

    Raises:
        BortError: There are no examples, or one has no label.
    """
    if not examples:
        raise BortError("there must be at least one labelled example")
    numbers = [parse_number(_known(example)) for example in examples]
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    whole = all(number.is_integer() for number in finite)
    return "regression" if len(finite) == len(examples) and not whole else "classification"


def label_names(examples: Sequence[Example]) -> list[str]:
    """List the distinct labels: by value where all are numbers, else naturally, with "class 2" before "class 10".

    Raises:
        BortError: There are fewer than two, or an example has no label.
    """
    names = {str(_known(example)) for example in examples}
    if len(names) < 2:
        file = examples[0].source or None if examples else None
        found = f"there is only {names.pop()!r}" if names else "there is none"
        raise BortError(f"a classifier needs at least two distinct labels; {found}", file=file)
    numbers = {name: parse_number(name) for name in names}
    if all(number is not None and math.isfinite(number) for number in numbers.values()):
        return sorted(names, key=lambda name: (numbers[name], _natural(name)))
    return sorted(names, key=_natural)


def _natural(name: str) -> tuple[list[tuple[str, int, str]], str]:
    # Digits compare by how many there are, then one by one: a number of any length, without parsing it.
    pieces = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(word, len(digits.lstrip("0")), digits.lstrip("0")) for word, digits in pieces], name


def encode_labels(examples: Sequence[Example], names: Sequence[str]) -> list[int]:
    """Turn each label into its index in `names`; 1.0, as programs write a whole number, is the class 1 and vice versa.

    Raises:
        BortError: A label is missing, or not among `names`.
    """
    index = {name: position for position, name in enumerate(names)}
    codes = []
    for example in named_labels(examples, names):
        name = str(_known(example))
        if name not in index:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            shown = ", ".join(repr(known) for known in names[:8]) + (", …" if len(names) > 8 else "")
            raise _refuse_label(f"the label must be one of {shown}{hint}", example)
        codes.append(index[name])
    return codes


def encode_values(examples: Sequence[Example]) -> list[float]:
    """Turn each label into the number that it spells.

    Raises:
        BortError: A label is missing, or not a finite number.
    """
    values = []
    for example in examples:
        value = parse_number(_known(example))
        if value is None or not math.isfinite(value):
            raise _refuse_label("a label must be a finite number", example)
        values.append(value)
    return values


def _known(example: Example) -> str | float:
    if example.label is None:
        raise _refuse_label("a label must not be missing", example)
    return example.label
