"""Sources of a corpus's text: files and data sets of the hub, and how each is known again."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bort.errors import BortError


def is_hub(source: str) -> bool:
    """Whether a source names a data set of the hub, not a file."""
    return not Path(source).exists() and ":" in source and "/" in source


@dataclass(frozen=True)
class SourceState:
    """A source at a moment; nothing but the name of a data set is known before it is read.

    Args:
        name: As it was given.
        size_bytes: Of the file.
        modified_ns: When the file was last changed.
    """

    name: str
    size_bytes: int = 0
    modified_ns: int = 0

    @classmethod
    def of(cls, source: str) -> SourceState:
        """Look at a source.

        Raises:
            BortError: There is no such file, or it cannot be looked at.
        """
        if is_hub(source):
            return cls(source)
        try:
            known = Path(source).stat()
        except FileNotFoundError:
            raise BortError("no such file", file=source) from None
        except OSError as error:
            raise BortError(f"cannot be read: {error.strerror or error}", file=source) from None
        return cls(source, known.st_size, known.st_mtime_ns)


def described(state: SourceState) -> dict[str, Any]:
    """What a corpus keeps of a source that was read: name, size, time, and a digest of all of a file.

    Raises:
        BortError: The file is another one than it was when its reading began.
    """
    if is_hub(state.name):
        return {"name": state.name}
    digest = _digest(state.name)
    if SourceState.of(state.name) != state:
        raise BortError("changed while it was read; run the command again", file=state.name)
    return {**asdict(state), "name": Path(state.name).name, "sha256": digest}


def is_unchanged(source: str, known: dict[str, Any]) -> bool:
    """Whether a source has the text that `described` saw. A file of other name or time may: its digest tells.

    Raises:
        BortError: There is no such file, or it cannot be read.
    """
    state = SourceState.of(source)
    if is_hub(source):
        return bool("sha256" not in known and known["name"] == source)
    if state.size_bytes != known.get("size_bytes"):
        return False
    if (Path(source).name, state.modified_ns) == (known["name"], known["modified_ns"]):
        return True
    return bool(_digest(source) == known["sha256"])


def _digest(file: str) -> str:
    try:
        with open(file, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=file) from None
