"""Plain text in: the lines of files, packed or not, with the file and line of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bort.data.tables.lines import Lines, decompressed, open_stored
from bort.errors import BortError

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
