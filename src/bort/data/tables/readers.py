"""Reads rows of named cells from CSV, TSV, JSON lines, plain text, Parquet and data sets on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

from bort.data.tables.compressed import COMPRESSED, decompressed, open_binary
from bort.data.tables.delimited import NumberedRow, ReadRow, Row, check_header, delimited_rows, missing_column
from bort.data.tables.lines import Lines
from bort.errors import BortError, lines_of, packages_installed

Format = Literal["csv", "tsv", "jsonl", "txt", "parquet", "hub"]
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
_PARQUET_BATCH_ROWS = 1024


def format_of(source: str | Path) -> Format:
    """Determine the format of a file by its extension, or recognise a hub data set by its name.

    Args:
        source: A path, compressed or not, or `owner/name:split` or `owner/name@config:split`. A local file with such a
            name takes precedence over the hub.

    Raises:
        BortError: The extension is unknown, or the source is a URL.
    """
    if "://" in str(source):
        raise BortError("is an address; name a local file, or a data set on the hub as owner/name:split", file=source)
    path = Path(source).expanduser()
    if is_hub_name(str(source)) and not path.exists():
        return "hub"
    packed = path.suffix.lower() in COMPRESSED
    kind = _EXTENSIONS.get(_extension(path))
    if kind is None or (packed and kind == "parquet"):
        if not path.exists():
            raise BortError("no such file; a data set on the hub is written owner/name:split", file=path)
        known = ", ".join(_EXTENSIONS)
        ending = "".join(path.suffixes[-2 if packed else -1 :])
        rule = f"the extension must be one of {known}, or a text one of these followed by {', '.join(COMPRESSED)}"
        raise BortError(rule, file=path, value=ending)
    return kind


def check_plain(source: str | Path) -> None:
    """Refuse a table where plain text is read: its lines would count as texts, with their commas and braces.

    Args:
        source: A path, compressed or not; any extension but those of tables will do.

    Raises:
        BortError: Its extension is that of a table.
    """
    if is_table(source):
        raise BortError("must be plain text, one text a line, and no table", file=source)


def is_table(source: str | Path) -> bool:
    """Whether a file's extension, without that of a compression, is one of tables.

    Example:
        >>> is_table("texts.csv.gz"), is_table("texts.txt"), is_table("notes.md")
        (True, False, False)
    """
    return _EXTENSIONS.get(_extension(Path(source)), "txt") != "txt"


def _extension(path: Path) -> str:
    """The extension in lower case, without that of a compression."""
    return Path(path.stem if path.suffix.lower() in COMPRESSED else path.name).suffix.lower()


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of a data set on the hub, maybe with a slice: `owner/name@config:split[:10%]`."""
    return _HUB_NAME.fullmatch(name) is not None


def numbered_rows(
    source: str | Path | IO[bytes],
    kind: Format,
    file: str,
    *,
    required: Sequence[str],
    text: str,
    header: Sequence[str] | None = None,
    delimiter: str | None = None,
    lenient: bool = False,
) -> Iterator[ReadRow]:
    """Yield each row lazily with the line where it starts.

    Args:
        source: A path, a hub name, or an open binary stream (text formats only).
        kind: The format.
        file: Name of the source, for error messages.
        required: Columns that must exist.
        text: Column name for the lines of plain text.
        header: Column names of a CSV or TSV file whose first line is already a row.
        delimiter: Cell separator of a CSV or TSV file; by default it is detected.
        lenient: Whether malformed rows of a text format are yielded, too, instead of the first one being an error.

    Returns:
        Pairs of a line number, or a row number for Parquet and the hub, from 1, and the cells by column; of a malformed
        row, its error, and its text as `raw` if it has no cells.

    Raises:
        BortError: While iterating, at the first row that breaks a rule of the format, and for errors that affect the
            whole source: a missing column of a table, a damaged archive, a quote that is never closed.
    """
    if kind in ("parquet", "hub"):
        if not isinstance(source, str | Path):
            raise BortError(f"a stream must be one of csv, tsv, jsonl, txt, not {kind}", file=file)
        if kind == "parquet":
            yield from _parquet_rows(str(source), required, file)
        else:
            yield from _hub_rows(str(source), required)
        return
    if kind not in get_args(Format):
        raise BortError(f"the format must be one of {', '.join(get_args(Format))}", file=file, value=kind)
    with contextlib.ExitStack() as stack:
        if isinstance(source, str | Path):
            plain = stack.enter_context(open_binary(source))
        else:
            plain = decompressed(source, file)
        lines = Lines(plain, file, lenient=lenient)
        if kind == "txt":
            yield from _plain_rows(lines, text)
        elif kind == "jsonl":
            yield from _json_rows(lines, required, lenient=lenient)
        else:
            assert kind in ("csv", "tsv")
            yield from delimited_rows(lines, kind, required, delimiter=delimiter, header=header, lenient=lenient)


def _plain_rows(lines: Lines, text: str) -> Iterator[ReadRow]:
    for line in lines.one_by_one():
        yield lines.damage or lines.number, {text: line.rstrip("\r\n")}


def _json_rows(lines: Lines, required: Sequence[str], *, lenient: bool) -> Iterator[ReadRow]:
    for line in lines.one_by_one():
        if not line.strip():
            continue
        try:
            yield lines.number, _json_row(line, lines, required)
        except BortError as error:
            if not lenient:
                raise
            yield error, {"raw": line.rstrip("\r\n")}


def _json_row(line: str, lines: Lines, required: Sequence[str]) -> Row:
    file, number = lines.file, lines.number
    if lines.damage is not None:
        raise lines.damage
    try:
        row = _JSON.decode(line)
    except (ValueError, RecursionError) as error:
        rule = f"must be valid JSON, one whole object on each line ({error})"
        raise BortError(rule, file=file, line=number, value=line.rstrip("\r\n")) from None
    except BortError as error:
        raise BortError(error.rule, file=file, line=number) from None
    if not isinstance(row, dict):
        rule = 'must be a JSON object, such as {"text": …}, one on each line'
        raise BortError(rule, file=file, line=number, value=row)
    for name in required:
        if name not in row:
            raise BortError(missing_column(name, row), file=file, line=number, column=name)
    if "\\ud" in line.lower():
        _check_surrogates(row, file, number)
    return row


def _unrepeated(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object, in which Python would let the last of equal keys win."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BortError(f"the key {twice!r} must not stand twice in a JSON object")
    return row


_JSON = json.JSONDecoder(object_pairs_hook=_unrepeated)


def _check_surrogates(row: Row, file: str, line: int) -> None:
    """Refuse lone surrogates, which JSON can escape but UTF-8 cannot encode."""
    for name, value in row.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            rule = "must be valid Unicode, without half of a surrogate pair"
            raise BortError(rule, file=file, line=line, column=name, value=value) from None


def _parquet_rows(source: str, required: Sequence[str], file: str) -> Iterator[NumberedRow]:
    with _opened_parquet(source, file) as table:
        check_header(table.schema_arrow.names, required, file)
        number = 0
        for batch in table.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
            for row in _python_rows(batch, file):
                number += 1
                yield number, row


@contextlib.contextmanager
def _opened_parquet(source: str, file: str) -> Iterator[Any]:
    with packages_installed(file):
        import pyarrow.parquet

    with open_binary(source) as handle:
        try:
            yield pyarrow.parquet.ParquetFile(handle)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BortError(f"must be a whole Parquet file ({lines_of(error)[0]})", file=file) from None


def _python_rows(batch: Any, file: str) -> Iterator[Row]:
    """Like `batch.to_pylist`, but an error names the column."""
    import pyarrow

    cells: dict[str, list[Any]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            cells[name] = column.to_pylist()
        # Python has no year 10,000, no object with a key twice, and no text that is not UTF-8.
        except (pyarrow.ArrowException, OverflowError, ValueError) as error:
            rule = f"must hold values that Python can represent ({lines_of(error)[0]})"
            raise BortError(rule, file=file, column=name) from None
    return (dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True))


def parquet_types(source: str) -> dict[str, Any]:
    """Return the Arrow types of a Parquet file's columns, but extension types, which may not take Python's values back.

    Args:
        source: A path.

    Raises:
        BortError: It is not a Parquet file, or cannot be read.
    """
    with packages_installed(source):
        import pyarrow

    with _opened_parquet(source, source) as table:
        fields = {field.name: field.type for field in table.schema_arrow}
    return {name: kind for name, kind in fields.items() if not isinstance(kind, pyarrow.BaseExtensionType)}


def _hub_rows(source: str, required: Sequence[str]) -> Iterator[NumberedRow]:
    with packages_installed(source):
        import datasets

    part = _HUB_NAME.fullmatch(source)
    if part is None:
        raise BortError("must be written owner/name:split or owner/name@config:split", value=source)
    try:
        table = datasets.load_dataset(part["name"], part["config"], split=part["split"])
    # Whatever the hub's client, its HTTP library or a data set's parser raises, the user can only fix the name.
    except Exception as error:
        offline = isinstance(error, ConnectionError) or "offline" in f"{type(error).__name__} {error}".lower()
        rule = (
            "the hub cannot be reached (offline?), and no local file has this name" if offline else "cannot be loaded"
        )
        raise BortError(f"{rule} ({lines_of(error)[0]})", file=source) from None
    check_header(table.column_names, required, source)
    yield from dataset_rows(table)


def dataset_rows(table: Any) -> Iterator[NumberedRow]:
    """Yield the rows of a `datasets.Dataset`, numbered from 1; class labels, also in lists, become their names.

    Args:
        table: The data set.
    """
    import datasets

    inner = {name: getattr(feature, "feature", feature) for name, feature in table.features.items()}  # of lists
    named = {name: feature for name, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}

    def name_of(feature: Any, value: Any) -> Any:
        if isinstance(value, list):
            return [name_of(feature, each) for each in value]
        # Test sets with hidden labels have -1 instead.
        return feature.int2str(value) if value is not None and value >= 0 else None

    for number, row in enumerate(table, start=1):
        yield number, row | {name: name_of(feature, row[name]) for name, feature in named.items()}
