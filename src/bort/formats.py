"""Format numbers of files that later versions of this package read.

Every such file holds `format`, the number of its layout, and `bort`, the version that wrote it. A changed layout gets
the next number; `tests/upgrade` keeps files of every number that can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.errors import BortError

_LONGEST_VERSION = 20


def stamp(number: int) -> dict[str, Any]:
    """The entries of a file that identify its layout.

        >>> stamp(1)["format"]
        1

    Args:
        number: Number of the layout.
    """
    return {"format": number, "bort": _version()}


def check_format(described: Mapping[str, Any], number: int, file: str | Path, remedy: str) -> None:
    """Reject a file of another layout; for a newer one, name the version of this package that reads it.

    Args:
        described: The file's content; only `format` and `bort` are read.
        number: Number of the expected layout.
        file: The file.
        remedy: What to do about an older file ("export the model again").

    Raises:
        BortError: The layout is a different one.
    """
    found = described.get("format")
    if type(found) is int and found == number:
        return
    if type(found) is int and found > number:
        writer = described.get("bort")
        known = isinstance(writer, str) and 0 < len(writer) <= _LONGEST_VERSION and writer.isprintable()
        reader = f"bort {writer} or later" if known else "a later version of bort"
        rule = f"is newer than format {number}, which bort {_version()} reads; open it with {reader}"
    else:
        rule = f"was written in another format than {number}; {remedy}"
    raise BortError(rule, file=file, column="format", value=found)


def _version() -> str:
    from importlib.metadata import version  # this import takes longer than reading most files

    return version("bort")
