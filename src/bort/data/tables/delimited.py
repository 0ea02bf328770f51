"""Reads rows from CSV and TSV: detects the delimiter, checks the header, reports malformed rows."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from bort.data.tables.lines import LONGEST_ROW_BYTES, Lines
from bort.errors import BortError
from bort.progress import say

Row = dict[str, Any]
NumberedRow = tuple[int, Row]
ReadRow = tuple[int | BortError, Row]
"""A row with its line; a malformed one with its error instead, and with its text as `raw` if it has no cells."""

_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", r"\t": "\t"}
_TITLES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_USUAL = {"csv": ",", "tsv": "\t"}
_QUOTES_STAY = "which .tsv takes for a part of them; if a program has quoted its cells, name the file .csv"
# Spreadsheets write this line before the header to declare the delimiter.
_NAMED_IN_FILE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


def delimiter_of(asked: str | None) -> str | None:
    r"""Parse a delimiter given by the user: a character, or comma, semicolon, tab (`\t`), pipe; None stays None.

    Raises:
        BortError: The name is unknown, or the character cannot separate cells.
    """
    if asked is None:
        return None
    delimiter = _NAMES.get(asked, asked)
    if len(delimiter) != 1 or delimiter in '"\r\n ':
        rule = f"must be one character other than a quote, a space or a line end, or {', '.join(_NAMES)}"
        raise BortError(rule, setting="delimiter", value=asked)
    return delimiter


def delimited_rows(
    lines: Lines,
    kind: Literal["csv", "tsv"],
    required: Sequence[str],
    *,
    delimiter: str | None = None,
    header: Sequence[str] | None = None,
    lenient: bool = False,
) -> Iterator[ReadRow]:
    """Yield each row with the number of its first line.

    Without `delimiter`, the usual one of the kind applies, unless the header has the required columns only with
    another. Tab-separated cells of a TSV file are never quoted; all others may be. Unnamed columns at the end are
    ignored if they are empty.

    Args:
        lines: The lines of the table.
        kind: CSV or TSV.
        required: Columns that must exist.
        delimiter: Separator of the cells.
        header: Column names, if the first line is already a row.
        lenient: Whether malformed rows are yielded, too, instead of the first one being an error.

    Raises:
        BortError: The header or a row is malformed.
    """
    if header is None:
        delimiter = _find_delimiter(lines, kind, required, delimiter)
    delimiter = delimiter or _USUAL[kind]
    quoted = kind == "csv" or delimiter != "\t"
    columns = None if header is None else _Columns(header, "the format has columns")
    for cells in _quoted_records(lines, delimiter) if quoted else _plain_records(lines):
        blank = cells in ([], [""])
        try:
            if isinstance(cells, BortError):
                raise cells
            if lines.damage is not None:
                raise lines.damage
            if columns is None:
                if not blank:
                    if not quoted and any(f'"{name}"' in cells for name in {*required} - {*cells}):
                        rule = f"the names of the columns begin and end with a quote, {_QUOTES_STAY}"
                        raise BortError(rule, file=lines.file, line=lines.first)
                    check_header(cells, required, lines.file, lines.first)
                    columns = _Columns(cells, "the header")
            # With a single column, a blank line is an empty text; with more, it is skipped.
            elif not blank or len(columns.names) == 1:
                yield lines.first, columns.row(cells or [""], lines, delimiter if quoted else "")
        except BortError as error:
            if not lenient or columns is None:
                raise
            yield error, {"raw": "".join(lines.row).rstrip("\r\n")}


class _Columns:
    """The columns of a header, without unnamed ones at its end; of other unnamed ones only the first is kept.

    Args:
        header: The cells of the header.
        wanted: What determines the number of cells of a row, for error messages.
    """

    def __init__(self, header: Sequence[str], wanted: str) -> None:
        width = max((place for place, name in enumerate(header, 1) if name.strip()), default=0)
        self.names, self._wanted = list(header[:width]), wanted
        unnamed = [place for place, name in enumerate(self.names) if not name.strip()]
        self._kept = [place for place in range(width) if place not in unnamed[1:]]

    def row(self, cells: Sequence[str], lines: Lines, quoted_at: str) -> Row:
        """Return the cells by column.

        Raises:
            BortError: There are too few cells, or extra ones that are not blank.
        """
        width = len(self.names)
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            hint = f"; quote a cell that holds a {_TITLES.get(quoted_at, repr(quoted_at))}" if quoted_at else ""
            rule = f"a row must have as many cells as {self._wanted}, {width}, not {len(cells)}{hint}"
            raise BortError(rule, file=lines.file, line=lines.first, value=lines.row[0].rstrip("\r\n"))
        return {self.names[place]: cells[place] for place in self._kept}


def _find_delimiter(lines: Lines, kind: Literal["csv", "tsv"], required: Sequence[str], asked: str | None) -> str:
    """Choose the delimiter as requested or by the header; print a note if the header calls for an unusual one."""
    usual = _USUAL[kind]
    lines.start_row()
    while (line := lines.peek()) and not line.strip("\r\n"):
        next(lines)
        lines.start_row()
    named = _NAMED_IN_FILE.fullmatch(line)
    if named:
        next(lines)
        lines.start_row()
        return asked or named[1]
    if asked is not None or not required:
        return asked or usual
    headers = {each: _cells(line, each) for each in (usual, *_TITLES)}
    found = next((each for each in headers if set(required) <= set(headers[each])), None)
    if found is None and len(headers[usual]) < 2:
        found = max(headers, key=lambda each: len(headers[each]))
    if found is None or found == usual:
        return usual
    say(f"{lines.file}: its cells are taken to be separated by {_TITLES[found]}s")
    return found


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def check_header(header: Sequence[str], required: Sequence[str], file: str, line: int | None = None) -> None:
    """Refuse a table that lacks a required column or has a duplicate one.

    Raises:
        BortError: A column is missing or duplicated.
    """
    for name in required:
        if name not in header:
            raise BortError(missing_column(name, header), file=file, line=line, column=name)
    for name, count in Counter(header).items():
        if count > 1 and name.strip():
            raise BortError("must not stand twice in the header", file=file, line=line, column=name)


def missing_column(name: str, present: Iterable[str]) -> str:
    """Return the message that column `name` is missing, with the columns `present` and the closest match."""
    columns = list(present)
    lower = {column.strip().lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    shown = ", ".join(repr(column) for column in columns[:12]) + (", …" if len(columns) > 12 else "")
    return f"this column must exist; the columns are {shown or 'none'}{hint}"


class QuotesInTsv:
    """Detects quoted cells in a TSV file, which has no quoting; pandas writes such files."""

    def __init__(self) -> None:
        self._texts = self._quoted = self._doubled = 0

    def see(self, text: str) -> None:
        """Count a text."""
        self._texts += 1
        if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', ""):
            self._quoted += 1
            self._doubled += '""' in text[1:-1]

    def tell(self, file: str) -> None:
        """Print a warning if all texts are quoted, or one is quoted and has doubled quotes inside."""
        if self._doubled or (self._texts > 1 and self._quoted == self._texts):
            say(f"{file}: texts begin and end with a quote, {_QUOTES_STAY}")


def _quoted_records(lines: Lines, delimiter: str) -> Iterator[list[str] | BortError]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW_BYTES))
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        lines.start_row()
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            open_quote = _open_quote(lines, delimiter) if "unexpected end of data" in str(error) else None
            if open_quote is not None:
                # It swallows the rest of the table, so this is not an error of a single row.
                rule = "the quote opened on this line is never closed"
                raise BortError(rule, file=lines.file, line=open_quote) from None
            rule = f"must be valid CSV, with quotes inside of a quoted cell doubled ({error})"
            if "new-line character" in str(error):
                rule = "quote a cell that holds a carriage return"
            yield BortError(rule, file=lines.file, line=lines.number, value=lines.row[-1].rstrip("\r\n"))


def _open_quote(lines: Lines, delimiter: str) -> int | None:
    """Find the line of the unclosed quote in the current row."""
    between = re.escape(delimiter)
    cell = re.compile(rf'(?:"[^"]*(?:""[^"]*)*"|(?!")[^{between}\r\n]*)(?:{between}|\r?\n|$)')
    row, position = "".join(lines.row), 0
    while position < len(row):
        found = cell.match(row, position)
        if found is None:
            return lines.first + row.count("\n", 0, position)
        position = found.end()
    return None


def _plain_records(lines: Lines) -> Iterator[list[str]]:
    # GLUE's files and similar ones hold unpaired quotes: in TSV a quote is an ordinary character.
    return (line.rstrip("\r\n").split("\t") for line in lines.one_by_one())
