"""Plain text in: lines of files, packed or not, with the file and line of what is wrong."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bort.errors import BortError


def open_bytes(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes, unpacking `.gz`, `.xz`, `.bz2` and `.zst` by the name's ending.

    Raises:
        BortError: The file cannot be opened, or `.zst` without the extra `bort[zst]`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise BortError("is a folder, not a file", file=path)
        match path.suffix:
            case ".gz":
                return cast(BinaryIO, gzip.open(path))
            case ".xz":
                return cast(BinaryIO, lzma.open(path))
            case ".bz2":
                return cast(BinaryIO, bz2.open(path))
            case ".zst":
                return _open_zst(path)
            case _:
                return open(path, "rb")
    except OSError as error:
        raise BortError(f"cannot be opened: {error.strerror}", file=path) from None


def _open_zst(path: Path) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise BortError("reading .zst needs: pip install 'bort[zst]'", file=path) from None
    return cast(BinaryIO, zstandard.open(path, "rb"))


def read_lines(path: str | Path, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 text without their ends (`\n` or `\r\n`).

    Args:
        path: The file, packed or not.
        on_bytes: Called now and then with the bytes of the file (as stored) read so far.

    Raises:
        BortError: Invalid UTF-8 (with its line), a damaged archive, a file that cannot be read.
    """
    path = Path(path)
    number = 0
    with open_bytes(path) as file:
        raw = cast(BinaryIO, getattr(file, "fileobj", None) or getattr(file, "_fp", None) or file)
        try:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if on_bytes is not None and number % 1024 == 0:
                    on_bytes(_position(raw))
                try:
                    yield line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    wrong = line[error.start : error.start + 1]
                    rule = f"must be UTF-8 (byte {error.start + 1} of the line)"
                    raise BortError(rule, file=path, line=number, value=wrong) from None
        except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
            raise BortError(f"is damaged: {error}", file=path, line=number + 1) from None
        except Exception as error:
            if type(error).__module__.startswith("zstandard") or type(error).__module__ == "zstd":
                raise BortError(f"is damaged: {error}", file=path, line=number + 1) from None
            raise


def _position(raw: BinaryIO) -> int:
    try:
        return raw.tell()
    except (OSError, ValueError):
        return 0


def total_bytes(paths: list[str]) -> int:
    """Bytes of the files as stored, for progress.

    Raises:
        BortError: One does not exist.
    """
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_size
        except OSError as error:
            raise BortError(f"cannot be opened: {error.strerror}", file=path) from None
    return total
