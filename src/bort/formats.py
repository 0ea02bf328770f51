"""The formats of files that outlive a version of this package: which number they carry, and who can read them.

Whatever is written to be read again says `format`, the number of its layout, and `bort`, the version that wrote it.
A layout that changes takes the next number; `tests/upgrade` keeps files of every number that is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.errors import BortError

_LONGEST_VERSION = 20


def stamp(number: int) -> dict[str, Any]:
    """What a file says of its own layout.

        >>> stamp(1)["format"]
        1

    Args:
        number: Of the layout.
    """
    return {"format": number, "bort": _version()}


def check_format(described: Mapping[str, Any], number: int, file: str | Path, remedy: str) -> None:
    """Refuse a file of another layout, and name the version of this package that reads a newer one.

    Args:
        described: What the file says; `format` and `bort` are looked at.
        number: Of the layout that is read here.
        file: The file.
        remedy: What to do about an older one ("export the model again").

    Raises:
        BortError: The layout is another one.
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
    from importlib.metadata import version  # loading it takes longer than reading most files

    return version("bort")
