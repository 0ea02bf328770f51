"""Opens files for reading, decompressed by extension or content."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

from bort.errors import BortError

Packing = Literal[".gz", ".xz", ".bz2", ".zst"]
COMPRESSED: tuple[Packing, ...] = (".gz", ".xz", ".bz2", ".zst")
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Exceptions that reading a damaged file raises."""
# No UTF-8 text begins with these. bzip2's mark could begin one, so its block's mark, the digits of pi, must follow.
_FIRST_BYTES: tuple[tuple[bytes, Packing], ...] = (
    (b"\x1f\x8b", ".gz"),
    (b"\xfd7zXZ\x00", ".xz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
)
_BZIP2, _BZIP2_BLOCK = b"BZh", b"1AY&SY"
# One compressed byte of zstd can expand to 32,768 bytes: small reads bound the memory that a hostile file can take.
_ZSTD_BITE_BYTES = 2048
_ZSTD_WINDOW = "its window is too large to be decompressed here; compress it again without --long, or with --long=27"


@contextlib.contextmanager
def open_binary(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed (gzip, xz, bzip2, zstd).

    Raises:
        BortError: The file is missing, a folder, or not readable, or `zstandard` is needed and not installed.
    """
    with open_stored(path) as stored, decompressed(stored, path) as plain:
        yield plain


def open_stored(path: str | Path) -> BinaryIO:
    """Open a file for reading, without decompression.

    Raises:
        BortError: The file is missing, a folder, or not readable.
    """
    try:
        return open(Path(path).expanduser(), "rb")
    except FileNotFoundError:
        hint = "; patterns are not expanded, name one file" if {*"*?"} & {*str(path)} else ""
        raise BortError(f"no such file{hint}", file=path) from None
    except IsADirectoryError:
        raise BortError("is a folder; name a file", file=path) from None
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=path) from None


def decompressed(stored: IO[bytes], name: str | Path) -> IO[bytes]:
    """Return a stream of an open file's decompressed bytes; the file's own position shows how much was read.

    Args:
        stored: The file as it is stored; the caller closes it.
        name: Name of the file. Its extension sets the compression; without one of `COMPRESSED`, the first bytes do.

    Raises:
        BortError: `zstandard` is needed and not installed.
    """
    suffix = Path(name).suffix.lower()
    match suffix if suffix in COMPRESSED else _packing(stored):
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=stored))
        case ".xz":
            return lzma.LZMAFile(stored)
        case ".bz2":
            return bz2.BZ2File(stored)
        case ".zst":
            return cast(IO[bytes], io.BufferedReader(_ZstdReader(stored, name, _zstandard(name)), 2**16))
        case _:
            return stored


def _packing(stored: IO[bytes]) -> Packing | None:
    """Detect the compression by the first bytes, without consuming them."""
    if not isinstance(stored, io.BufferedReader):
        return None
    try:
        first = stored.peek(10)[:10]
    except OSError:
        return None  # reading will report it
    if first.startswith(_BZIP2) and first[4:10] == _BZIP2_BLOCK:
        return ".bz2"
    return next((packing for mark, packing in _FIRST_BYTES if first.startswith(mark)), None)


def _zstandard(path: str | Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise BortError("needs the package zstandard: pip install 'bort[zst]'", file=path) from None
    return zstandard


class _ZstdReader(io.RawIOBase):
    """Reader of consecutive zstd frames; unlike zstandard's own reader, it detects a truncated file."""

    def __init__(self, file: IO[bytes], name: str | Path, zstandard: Any) -> None:
        self._file, self._name, self._zstandard = file, name, zstandard
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
            if "too much memory" in str(error):
                raise BortError(_ZSTD_WINDOW, file=self._name) from None
            raise OSError(str(error)) from None
        self._plain = memoryview(b"".join(plain))
        return True
