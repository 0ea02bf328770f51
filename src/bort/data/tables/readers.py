"""Rows of named cells out of CSV, TSV, JSON lines, plain text, Parquet, and data sets on the Hugging Face hub."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

from bort.data.tables.lines import COMPRESSED, LONGEST_ROW_BYTES, Lines, open_binary
from bort.errors import BortError

Format = Literal["csv", "tsv", "jsonl", "txt", "parquet", "hub"]
NumberedRow = tuple[int, dict[str, Any]]

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
    ".parquet": "parquet",
}
_HUB_NAME = re.compile(
    r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<config>[\w.+-]{1,96}))?:(?P<split>\w{1,96}(\[[\w:%+-]*\])?)", re.ASCII
)
_CSV_CELL = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|(?!")[^,\r\n]*)(?:,|\r?\n|$)')
_PARQUET_BATCH_ROWS = 1024


def format_of(source: str | Path) -> Format:
    """Tell the format of a file by its extension, or of a hub data set by its name.

    Args:
        source: A path, compressed or not, or `owner/name:split` or `owner/name@config:split`. A local file of such a
            name goes before the hub.

    Raises:
        BortError: The extension is not known.
    """
    path = Path(source)
    if _HUB_NAME.fullmatch(str(source)) and not path.exists():
        return "hub"
    packed = path.suffix.lower() in COMPRESSED
    extension = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    kind = _EXTENSIONS.get(extension)
    if kind is None or (packed and kind == "parquet"):
        if not path.exists():
            raise BortError("no such file; a data set on the hub is written owner/name:split", file=path)
        known = ", ".join(_EXTENSIONS)
        ending = "".join(path.suffixes[-2 if packed else -1 :])
        rule = f"the extension must be one of {known}, or a text one of these followed by {', '.join(COMPRESSED)}"
        raise BortError(rule, file=path, value=ending)
    return kind


def numbered_rows(
    source: str | Path | IO[bytes],
    kind: Format,
    file: str,
    *,
    required: Sequence[str],
    text: str,
    header: Sequence[str] | None = None,
    on_torn: Callable[[int], None] | None = None,
) -> Iterator[NumberedRow]:
    """Give each row with the line where it starts, lazily.

    Args:
        source: A path, a hub name, or an open binary stream (text formats only).
        kind: The format.
        file: Name of the source for messages.
        required: Columns that must exist.
        text: Name that the one column of plain text gets.
        header: Names of the columns of a CSV or TSV file whose first line is a row already.
        on_torn: Called with the line of each row of a CSV or TSV file that has another number of cells, which is then
            left out; without it such a row is refused.

    Returns:
        Pairs of a line number, or a row number for Parquet and the hub, from 1, and the cells by column.

    Raises:
        BortError: While iterating, on the first row that breaks a rule of the format.
    """
    if kind in ("parquet", "hub"):
        if not isinstance(source, str | Path):
            raise BortError(f"a stream must be one of csv, tsv, jsonl, txt, not {kind}", file=file)
        rows = _parquet_rows if kind == "parquet" else _hub_rows
        yield from rows(str(source), required)
        return
    if kind not in get_args(Format):
        raise BortError(f"the format must be one of {', '.join(get_args(Format))}", file=file, value=kind)
    if isinstance(source, str | Path):
        with open_binary(Path(source)) as handle:
            yield from _text_rows(Lines(handle, file), kind, required, text, header, on_torn)
    else:
        yield from _text_rows(Lines(source, file), kind, required, text, header, on_torn)


def _text_rows(
    lines: Lines,
    kind: Format,
    required: Sequence[str],
    text: str,
    header: Sequence[str] | None,
    on_torn: Callable[[int], None] | None,
) -> Iterator[NumberedRow]:
    if kind == "txt":
        yield from ((lines.number, {text: line.rstrip("\r\n")}) for line in lines.one_by_one())
    elif kind == "jsonl":
        yield from _json_rows(lines, required)
    else:
        yield from _table_rows(lines, _csv_records if kind == "csv" else _tsv_records, required, header, on_torn)


def _table_rows(
    lines: Lines,
    records: Callable[[Lines], Iterator[list[str]]],
    required: Sequence[str],
    given: Sequence[str] | None = None,
    on_torn: Callable[[int], None] | None = None,
) -> Iterator[NumberedRow]:
    header: list[str] | None = None if given is None else list(given)
    for cells in records(lines):
        blank = cells in ([], [""])
        if header is None:
            if not blank:
                header = cells
                _check_header(header, required, lines.file, lines.first)
        # A blank line is an empty text where there is one column, and nothing where there are more.
        elif blank and len(header) > 1:
            continue
        else:
            cells = cells or [""]
            if len(cells) != len(header):
                if on_torn is not None:
                    on_torn(lines.first)
                    continue
                hint = "; quote a cell that holds a comma" if records is _csv_records else ""
                wanted = "the header" if given is None else "the format has columns"
                rule = f"a row must have as many cells as {wanted}, {len(header)}, not {len(cells)}{hint}"
                raise BortError(rule, file=lines.file, line=lines.first, value=lines.row[0].rstrip("\r\n"))
            yield lines.first, dict(zip(header, cells, strict=True))
    if header is None:
        raise BortError("is empty; a header line with the column names must come first", file=lines.file)


def _check_header(header: list[str], required: Sequence[str], file: str, line: int | None) -> None:
    for name in required:
        if name not in header:
            raise BortError(_missing_column(name, header), file=file, line=line, column=name)
    for name, count in Counter(header).items():
        if count > 1:
            raise BortError("must not stand twice in the header", file=file, line=line, column=name)


def _missing_column(name: str, present: Iterable[str]) -> str:
    """Word the rule that column `name` must exist, with those `present` and the nearest of them."""
    columns = list(present)
    lower = {column.strip().lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    shown = ", ".join(repr(column) for column in columns[:12]) + (", …" if len(columns) > 12 else "")
    return f"this column must exist; the columns are {shown or 'none'}{hint}"


def _csv_records(lines: Lines) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW_BYTES))
    reader = csv.reader(lines, strict=True)
    while True:
        lines.start_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            open_quote = _open_quote(lines) if "unexpected end of data" in str(error) else None
            if open_quote is not None:
                raise BortError(
                    "the quote opened on this line is never closed", file=lines.file, line=open_quote
                ) from None
            rule = f"must be valid CSV, with quotes inside of a quoted cell doubled ({error})"
            raise BortError(rule, file=lines.file, line=lines.number, value=lines.row[-1].rstrip("\r\n")) from None
        yield cells


def _open_quote(lines: Lines) -> int | None:
    """Find the line of the opening quote of the current row that has no closing one."""
    row, position = "".join(lines.row), 0
    while position < len(row):
        cell = _CSV_CELL.match(row, position)
        if cell is None:
            return lines.first + row.count("\n", 0, position)
        position = cell.end()
    return None


def _tsv_records(lines: Lines) -> Iterator[list[str]]:
    # GLUE's files and those like them hold lone quotes: in TSV a quote is a character as any other.
    return (line.rstrip("\r\n").split("\t") for line in lines.one_by_one())


def _json_rows(lines: Lines, required: Sequence[str]) -> Iterator[NumberedRow]:
    for line in lines.one_by_one():
        number = lines.number
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            rule = f"must be valid JSON, one whole object on each line ({error})"
            raise BortError(rule, file=lines.file, line=number, value=line.rstrip("\r\n")) from None
        if not isinstance(row, dict):
            rule = 'must be a JSON object, such as {"text": …}, one on each line'
            raise BortError(rule, file=lines.file, line=number, value=row)
        for name in required:
            if name not in row:
                raise BortError(_missing_column(name, row), file=lines.file, line=number, column=name)
        if "\\ud" in line.lower():
            _check_surrogates(row, lines.file, number)
        yield number, row


def _check_surrogates(row: dict[str, Any], file: str, line: int) -> None:
    """Refuse what JSON can escape and UTF-8 cannot write: half of a surrogate pair."""
    for name, value in row.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            rule = "must be valid Unicode, without half of a surrogate pair"
            raise BortError(rule, file=file, line=line, column=name, value=value) from None


def _parquet_rows(source: str, required: Sequence[str]) -> Iterator[NumberedRow]:
    import pyarrow
    import pyarrow.parquet

    with open_binary(Path(source)) as handle:
        try:
            table = pyarrow.parquet.ParquetFile(handle)
            _check_header(list(table.schema_arrow.names), required, source, None)
            number = 0
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BortError(f"must be a whole Parquet file ({_first_line(error)})", file=source) from None


def _hub_rows(source: str, required: Sequence[str]) -> Iterator[NumberedRow]:
    import datasets

    part = _HUB_NAME.fullmatch(source)
    if part is None:
        raise BortError("must be written owner/name:split or owner/name@config:split", value=source)
    try:
        table = datasets.load_dataset(part["name"], part["config"], split=part["split"])
    # Whatever the hub's client, its HTTP library or a data set's own parser raises, the user can only mend the name.
    except Exception as error:
        offline = isinstance(error, ConnectionError) or "offline" in f"{type(error).__name__} {error}".lower()
        rule = (
            "the hub cannot be reached (offline?), and no local file has this name" if offline else "cannot be loaded"
        )
        raise BortError(f"{rule} ({_first_line(error)})", file=source) from None
    _check_header(list(table.column_names), required, source, None)
    named = {name: feature for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)}
    for number, row in enumerate(table, start=1):
        for name, feature in named.items():
            # Hidden test sets have -1 where the label would be.
            known = row[name] is not None and row[name] >= 0
            row[name] = feature.int2str(row[name]) if known else None
        yield number, row


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
