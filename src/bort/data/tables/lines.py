"""Reads lines of text, counted and checked, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from bort.data.tables.compressed import BROKEN, decompressed, open_stored
from bort.errors import BortError

LONGEST_ROW_BYTES = 64 * 2**20
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF16 = "this looks like UTF-16; convert it, as iconv -f UTF-16 -t UTF-8 does"


class Lines(Iterator[str]):
    """The decoded lines of a binary stream, with line ends; those of the current row are kept.

    A row is one line, or several if a quoted cell spans them; `start_row` marks the start of the next one.

    Attributes:
        file: Name of the stream, for error messages.
        number: Number of lines read so far.
        first: Number of the first line of the current row, from 1.
        row: The lines of the current row.
        damage: With `lenient`, the error in the bytes of the current row, or None.

    Args:
        handle: Stream of decompressed bytes.
        file: Name of the stream, for error messages.
        keep_nul: Whether to accept NUL as an ordinary character instead of refusing it.
        lenient: Whether to yield a line that is not UTF-8 or holds NUL, with replacement characters, and set `damage`
            instead of raising.
    """

    def __init__(self, handle: IO[bytes], file: str, *, keep_nul: bool = False, lenient: bool = False) -> None:
        self.file, self.number, self.first = file, 0, 1
        self.keep_nul, self.lenient = keep_nul, lenient
        self.row: list[str] = []
        self.damage: BortError | None = None
        self._row_bytes = 0
        self._handle = handle
        self._next: bytes | None = None

    def start_row(self) -> None:
        """Start a new row with the next line."""
        self.first = self.number + 1
        self.row = []
        self.damage = None
        self._row_bytes = 0

    def one_by_one(self) -> Iterator[str]:
        """Yield each line as its own row."""
        self.start_row()
        for line in self:
            yield line
            self.start_row()

    def peek(self) -> str:
        """Return the next line without consuming it, with replacement characters if needed; "" at the end."""
        if self._next is None:
            self._next = self._read()
        raw = self._next if self.number else self._next.removeprefix(_UTF8_MARK)
        return raw.decode("utf-8", "replace")

    def __next__(self) -> str:
        raw = self._read() if self._next is None else self._next
        self._next = None
        if self.number == 0:
            raw = raw.removeprefix(_UTF8_MARK)
        if not raw:
            raise StopIteration
        self.number += 1
        self._row_bytes += len(raw)
        if self.number == 1 and not self.keep_nul and b"\n" not in raw and b"\r" in raw.rstrip(b"\r"):
            rule = "the lines end with a carriage return alone, as on old Macs; convert them, as tr '\\r' '\\n' does"
            raise BortError(rule, file=self.file)
        if self._row_bytes > LONGEST_ROW_BYTES:
            rule = f"the row that begins here must be no longer than {LONGEST_ROW_BYTES:,} bytes"
            quote = "; is a quote left open?" if self.row else ""
            raise BortError(rule + quote, file=self.file, line=self.first)
        line, rule = self._decoded(raw)
        if rule:
            error = BortError(rule, file=self.file, line=self.number)
            # Another encoding is an error of the whole file, not of single lines.
            if not self.lenient or _UTF16 in rule:
                raise error
            self.damage = self.damage or error
        self.row.append(line)
        return line

    def _read(self) -> bytes:
        try:
            return self._handle.readline(LONGEST_ROW_BYTES + 1)
        except BROKEN as error:
            rule = f"the data is damaged and cannot be read from here on ({error})"
            raise BortError(rule, file=self.file, line=self.number + 1) from None

    def _decoded(self, raw: bytes) -> tuple[str, str]:
        """Decode a line; also return what is wrong with its bytes, or ""."""
        try:
            line, bad = raw.decode("utf-8"), ""
        except UnicodeDecodeError as error:
            line = raw.decode("utf-8", "replace")
            bad = f"byte {error.start + 1} of the line, 0x{raw[error.start]:02x}, is not"
        nul = not self.keep_nul and b"\0" in raw
        if not bad and not nul:
            return line, ""
        # In UTF-16 text of Latin letters, every second byte is NUL.
        marked = raw.startswith(_UTF16_MARKS)
        wide = self.number == 1 and (marked or raw.count(0) > len(raw) // 4)
        if nul and not marked:
            return line, "must not hold NUL bytes" + (f"; {_UTF16}" if wide else "")
        return line, f"must be UTF-8; {_UTF16 if wide else bad}"


_CHARACTERS_BETWEEN_REPORTS = 1 << 20


def read_lines(path: str | Path, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 text without their ends (`\n` or `\r\n`); every other character is kept.

    Args:
        path: The file; `.gz`, `.xz`, `.bz2` and `.zst` are decompressed.
        on_bytes: Called from time to time, and at the end, with the number of stored bytes read so far.

    Raises:
        BortError: Invalid UTF-8 (with its line), a damaged archive, a file that cannot be read.
    """
    with open_stored(path) as stored, decompressed(stored, path) as plain:
        unreported = 0
        for line in Lines(plain, str(path), keep_nul=True).one_by_one():
            unreported += len(line)
            if on_bytes is not None and unreported >= _CHARACTERS_BETWEEN_REPORTS:
                on_bytes(stored.tell())
                unreported = 0
            yield line.removesuffix("\n").removesuffix("\r")
        if on_bytes is not None:
            on_bytes(stored.tell())


def read_all_lines(paths: Iterable[str | Path], *, on_bytes: Callable[[int], None]) -> Iterator[str]:
    """Yield the lines of several files as `read_lines` does; `on_bytes` is given the stored bytes of all of them."""
    before = 0
    for path in paths:

        def told(read: int, before: int = before) -> None:
            on_bytes(before + read)

        yield from read_lines(path, on_bytes=told)
        before += total_bytes([str(path)])


def total_bytes(paths: list[str]) -> int:
    """Return the total size of the files as stored, for progress.

    Raises:
        BortError: A file does not exist or cannot be accessed.
    """
    total = 0
    for path in paths:
        try:
            total += Path(path).stat().st_size
        except FileNotFoundError:
            raise BortError("no such file", file=path) from None
        except OSError as error:
            raise BortError(f"cannot be read: {error.strerror or error}", file=path) from None
    return total
