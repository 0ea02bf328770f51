"""Lines of text out of plain and compressed files, counted and checked, in bounded memory."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from bort.errors import BortError

COMPRESSED = (".gz", ".xz", ".bz2", ".zst")


LONGEST_ROW_BYTES = 64 * 2**20


BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged file raises."""


_UTF8_MARK = b"\xef\xbb\xbf"


_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


# One compressed byte of zstd can stand for 32,768 plain ones: small bites bound the memory of a hostile file.
_ZSTD_BITE_BYTES = 2048


@contextlib.contextmanager
def open_binary(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed by its extension (.gz, .xz, .bz2, .zst).

    Raises:
        BortError: The file is missing, a folder, or not readable, or `zstandard` is needed and not installed.
    """
    with open_stored(path) as stored, decompressed(stored, path) as plain:
        yield plain


def open_stored(path: str | Path) -> BinaryIO:
    """Open a file for reading as it is stored.

    Raises:
        BortError: The file is missing, a folder, or not readable.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise BortError("no such file", file=path) from None
    except IsADirectoryError:
        raise BortError("is a folder; name a file", file=path) from None
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=path) from None


def decompressed(stored: BinaryIO, path: str | Path) -> IO[bytes]:
    """Give the plain bytes of an open file, whose own position then tells how much of it was used.

    Args:
        stored: The file as it is stored; the caller closes it.
        path: Its name, which tells the compression.

    Raises:
        BortError: `zstandard` is needed and not installed.
    """
    match Path(path).suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=stored))
        case ".xz":
            return lzma.LZMAFile(stored)
        case ".bz2":
            return bz2.BZ2File(stored)
        case ".zst":
            return cast(IO[bytes], io.BufferedReader(_ZstdReader(stored, _zstandard(path)), 2**16))
        case _:
            return stored


def _zstandard(path: str | Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise BortError("needs the package zstandard: pip install 'bort[zst]'", file=path) from None
    return zstandard


class _ZstdReader(io.RawIOBase):
    """Frames of zstd one after another; unlike zstandard's own reader it notices a file that was cut short."""

    def __init__(self, file: IO[bytes], zstandard: Any) -> None:
        self._file, self._zstandard = file, zstandard
        self._frame: Any = None
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        while not self._plain and self._more():
            pass
        count = min(len(target), len(self._plain))
        target[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _more(self) -> bool:
        packed = self._file.read(_ZSTD_BITE_BYTES)
        if not packed:
            if self._frame is not None:
                raise EOFError("the file ends inside a compressed frame")
            return False
        plain = []
        try:
            while packed:
                self._frame = self._frame or self._zstandard.ZstdDecompressor().decompressobj()
                plain.append(self._frame.decompress(packed))
                packed = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._plain = memoryview(b"".join(plain))
        return True


class Lines(Iterator[str]):
    """The decoded lines of a binary stream, each with its line end, remembered since the current row began.

    A row is one line, or several where a quoted cell spans them; `start_row` marks where the next one begins.

    Attributes:
        file: Name of the stream for messages.
        number: Lines read so far.
        first: Number of the line where the current row begins, from 1.
        row: The lines of the current row.

    Args:
        handle: The plain bytes.
        file: Name of the stream for messages.
        keep_nul: Whether NUL is a character like any other; a table that holds one is refused.
    """

    def __init__(self, handle: IO[bytes], file: str, *, keep_nul: bool = False) -> None:
        self.file, self.number, self.first = file, 0, 1
        self.keep_nul = keep_nul
        self.row: list[str] = []
        self._row_bytes = 0
        self._handle = handle

    def start_row(self) -> None:
        """Let the next line be the first of a row."""
        self.first = self.number + 1
        self.row = []
        self._row_bytes = 0

    def one_by_one(self) -> Iterator[str]:
        """Give each line as a row of its own."""
        self.start_row()
        for line in self:
            yield line
            self.start_row()

    def __next__(self) -> str:
        try:
            raw = self._handle.readline(LONGEST_ROW_BYTES + 1)
        except BROKEN as error:
            rule = f"the data is damaged and cannot be read from here on ({error})"
            raise BortError(rule, file=self.file, line=self.number + 1) from None
        if not raw:
            raise StopIteration
        self.number += 1
        self._row_bytes += len(raw)
        if self._row_bytes > LONGEST_ROW_BYTES:
            rule = f"the row that begins here must be no longer than {LONGEST_ROW_BYTES:,} bytes"
            quote = "; is a quote left open?" if self.row else ""
            raise BortError(rule + quote, file=self.file, line=self.first)
        if self.number == 1:
            raw = raw.removeprefix(_UTF8_MARK)
        if not self.keep_nul and b"\0" in raw and not raw.startswith(_UTF16_MARKS):
            raise BortError("must not hold NUL bytes", file=self.file, line=self.number)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            wide = self.number == 1 and raw.startswith(_UTF16_MARKS)
            bad = f"byte {error.start + 1} of the line, 0x{raw[error.start]:02x}, is not"
            rule = f"must be UTF-8; {'this looks like UTF-16' if wide else bad}"
            raise BortError(rule, file=self.file, line=self.number) from None
        self.row.append(line)
        return line


_CHARACTERS_BETWEEN_REPORTS = 1 << 20


def read_lines(path: str | Path, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 text without their ends (`\n` or `\r\n`); every other character is kept.

    Args:
        path: The file; `.gz`, `.xz`, `.bz2` and `.zst` are unpacked.
        on_bytes: Called now and then, and at the end, with the bytes of the file (as stored) read so far.

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


def total_bytes(paths: list[str]) -> int:
    """Bytes of the files as stored, for progress.

    Raises:
        BortError: One does not exist.
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
