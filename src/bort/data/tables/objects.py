"""Texts and labels in memory: lists, arrays, DataFrames, Arrow tables, data sets."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bort.data.tables.delimited import missing_column
from bort.data.tables.examples import Columns, Example, read_examples, read_row, second_text, whole_table
from bort.data.tables.readers import dataset_rows
from bort.errors import BortError
from bort.files import write_aside

_DEFAULT_COLUMNS = Columns()
_PAIR = "text_pair"
"""Other name of the column with the second text, as in a predictor's inputs."""
_TEXTS = (
    "a text, a pair of texts, or a mapping with text (and text_b); texts come as a list, an array, or a column or "
    "table of pandas, polars, pyarrow or datasets"
)


class DataError(BortError, ValueError):
    """In-memory data breaks a rule; also a `ValueError`, as Python libraries expect."""


def table_rows(
    table: Any, needed: Collection[str] = (), more: Collection[str] = ()
) -> Iterator[Mapping[str, Any]] | None:
    """Return the rows of a table as mappings by column, or None if the object is not a table.

    Args:
        table: A pandas or polars DataFrame, or anything else with an Arrow C stream and named columns; a
            `datasets.Dataset`, whose class labels become their names; a mapping of columns; or a list of mappings.
        needed: Columns that are read, if the table has them all; its other columns may then hold anything.
        more: Further columns that are read.

    Raises:
        DataError: Columns differ in length, two have one name, or Arrow has no type for one.
    """
    if isinstance(table, Mapping):
        columns = {str(name): column_values(values) for name, values in table.items()}
        if len(lengths := {len(values) for values in columns.values()}) > 1:
            raise DataError("the columns of a table must be equally long", value=sorted(lengths))
        return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    if hasattr(table, "features") and hasattr(table, "column_names"):
        return (row for _, row in dataset_rows(table))
    if hasattr(table, "__arrow_c_stream__") and (hasattr(table, "columns") or hasattr(table, "column_names")):
        import pyarrow

        if hasattr(table, "reset_index"):
            table = table.reset_index(drop=True)  # Arrow would take pandas' row names for a column
            if needed and {*needed} <= {*map(str, table.columns)}:
                table = table.loc[:, [str(name) in {*needed, *more} for name in table.columns]]
        names = Counter(map(str, table.column_names if hasattr(table, "column_names") else table.columns))
        if twice := [name for name, count in names.items() if count > 1]:
            raise DataError("a table must not have two columns of one name", column=twice[0])
        try:
            arrow = pyarrow.table(table)
        except OverflowError:
            raise DataError("a column of the table holds a whole number of more than 64 bits") from None
        except pyarrow.ArrowException as error:
            first = str(error).splitlines()[0]
            raise DataError(f"a column of the table holds values of different types: {first}") from None
        except TypeError as error:
            raise DataError(f"a column of the table has a type that Arrow lacks: {error}") from None
        return (row for batch in arrow.to_batches() for row in batch.to_pylist())
    if isinstance(table, Sequence) and table and all(isinstance(row, Mapping) for row in table):
        return iter(table)
    return None


def column_values(column: Any) -> list[Any]:
    """Return the values of a list, an array or a column, as native Python objects if the library can convert them.

    Raises:
        DataError: The column is a string or cannot be iterated.
    """
    if not hasattr(column, "__iter__") and hasattr(column, "__array__"):
        column = np.asarray(column)
    if isinstance(column, str | bytes) or not hasattr(column, "__iter__"):
        raise DataError("must be a list, an array or a column of values", value=column)
    for convert in ("to_pylist", "to_list", "tolist"):  # pyarrow; pandas and polars; numpy
        if hasattr(column, convert):
            values = getattr(column, convert)()
            return values if isinstance(values, list) else [values]
    return list(column)


def texts_of(
    data: Any, columns: Columns = _DEFAULT_COLUMNS, *, name: str = "X", labelled: bool = False
) -> list[Example]:
    """Turn texts or pairs of texts into examples without labels.

    Args:
        data: Strings or pairs of strings in any list, array or column; or a table (see `table_rows`), from which the
            columns that `columns` names are read, or its only one, or its only two as a pair.
        columns: Names of the columns.
        name: Name of the data, for error messages.
        labelled: Whether the texts are for training, so that none may be blank.

    Raises:
        DataError: A value breaks a rule (the error names its row), or a table has no column of texts.
    """
    rows = table_rows(data, [columns.text], [columns.text_b, _PAIR])
    values = column_values(data) if rows is None else [_row_texts(row, columns, name) for row in rows]
    return [_texts(value, name, number, labelled) for number, value in enumerate(values, start=1)]


def examples_of(data: Any, columns: Columns = _DEFAULT_COLUMNS, *, name: str = "data") -> list[Example]:
    """Read the labelled examples of a file, a hub data set or a table in memory.

    Args:
        data: A path or hub name as in `read_examples`, or a table as in `table_rows`.
        columns: Names of the columns.
        name: Name of in-memory data, for error messages.

    Raises:
        BortError: As in `read_examples`.
    """
    if isinstance(data, str | Path):
        return read_examples(data, columns)
    columns.check_apart()
    rows = table_rows(data, [columns.text, *columns.labels], [columns.text_b])
    if rows is None:
        raise DataError("must be a path, or a table with a column of texts and one of labels", file=name, value=data)
    examples: list[Example] = []
    for number, row in enumerate(rows, start=1):
        for column in (columns.text, *columns.labels):
            if column not in row:
                raise DataError(missing_column(column, map(str, row)), file=name, column=column)
        cells = {key: _plain(row[key]) for key in (columns.text, columns.text_b, *columns.labels) if key in row}
        example = read_row(cells, columns, True, name, number)
        labels = example.label if isinstance(example.label, tuple) else (str(example.label),)
        _check_unicode([example.text, example.text_b or "", *labels], name, number)
        if examples and (example.text_b is None) != (examples[0].text_b is None):
            rule = "must be in every row or in none"
            raise DataError(rule, file=name, line=number, column=columns.text_b, value=example.text_b)
        examples.append(example)
    return whole_table(examples, name, columns, True)


def write_examples(examples: Sequence[Example], path: Path, columns: Columns = _DEFAULT_COLUMNS) -> None:
    """Write examples as JSON lines, with the second text and the label where there is one.

    Args:
        examples: The examples.
        path: Output file.
        columns: Names of the columns.
    """
    with write_aside(path) as file:
        file.write(_json_lines(examples, columns))


def kept_file(data: Any, folder: Path, name: str, columns: Columns = _DEFAULT_COLUMNS, *, labelled: bool = True) -> str:
    """Write in-memory data to a file named by its content hash, and return its path; a path is returned unchanged.

    So a run that is resumed with the same data finds the same file, and one with other data does not.

    Args:
        data: A path, or data as in `examples_of` or, if unlabelled, as in `texts_of`.
        folder: Output folder.
        name: Name of the data; the file name starts with it.
        columns: Names of the columns.
        labelled: Whether the data has labels.

    Raises:
        BortError: A row breaks a rule.
    """
    if isinstance(data, str | Path):
        return str(data)
    examples = examples_of(data, columns, name=name) if labelled else texts_of(data, columns, name=name)
    content = _json_lines(examples, columns)
    path = folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}.jsonl"
    if not path.is_file():
        with write_aside(path) as file:
            file.write(content)
    return str(path)


def _json_lines(examples: Sequence[Example], columns: Columns) -> str:
    rows = (
        {columns.text: example.text, columns.text_b: example.text_b, **_label_cells(example, columns)}
        for example in examples
    )
    kept = ({name: value for name, value in row.items() if value is not None} for row in rows)
    return "".join(json.dumps(row) + "\n" for row in kept)


def _label_cells(example: Example, columns: Columns) -> dict[str, Any]:
    """Return the label's cells in the form that `read_label` reads."""
    if len(columns.labels) > 1 and isinstance(example.label, tuple):
        return {name: int(name in example.label) for name in columns.labels}
    return {columns.labels[0]: example.label}


def _plain(cell: Any) -> Any:
    """A cell with NumPy's numbers, truth values and strings as Python's, also in a list of labels."""
    if isinstance(cell, list | tuple):
        return [_plain(each) for each in cell]
    return cell.item() if isinstance(cell, np.generic) else cell


def _check_unicode(texts: Iterable[str], name: str, number: int) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            rule = "must be valid Unicode, without half of a surrogate pair"
            raise DataError(rule, file=name, line=number, value=text) from None


def _row_texts(row: Mapping[str, Any], columns: Columns, name: str) -> Any:
    if columns.text in row:
        second = row.get(columns.text_b, row.get(_PAIR))
        return row[columns.text] if second is None else (row[columns.text], second)
    if len(row) in (1, 2):
        values = tuple(row.values())
        return values if len(values) == 2 else values[0]
    found = ", ".join(map(str, row))
    raise DataError(f"must have a column {columns.text!r}, or one or two columns in all; it has {found}", file=name)


def _texts(value: Any, name: str, number: int, labelled: bool) -> Example:
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
        raise DataError(f"must be {_TEXTS}", file=name, line=number, value=value)
    for part in parts:
        if "\0" in part:
            raise DataError("must not hold NUL characters", file=name, line=number, value=part)
    _check_unicode(parts, name, number)
    if labelled and not parts[0].strip():
        raise DataError("must not be blank", file=name, line=number, value=parts[0])
    return Example(str(parts[0]), second_text(str(parts[1])) if len(parts) == 2 else None, source=name, line=number)
