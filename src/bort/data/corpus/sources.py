"""Text sources of a corpus, files and hub data sets, and how to tell whether one has changed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bort.data.tables.readers import is_hub_name
from bort.errors import BortError


def is_hub(source: str) -> bool:
    """Whether a source is a hub data set rather than a file."""
    return is_hub_name(source) and not Path(source).exists()


@dataclass(frozen=True)
class SourceState:
    """State of a source at one moment; of a hub data set only the name is known.

    Args:
        name: Name as given.
        size_bytes: Size of the file.
        modified_ns: Modification time of the file.
    """

    name: str
    size_bytes: int = 0
    modified_ns: int = 0

    @classmethod
    def of(cls, source: str) -> SourceState:
        """Read the current state of a source.

        Raises:
            BortError: The file does not exist or cannot be accessed.
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
    """Return what a corpus records about a source: its name, and a file's size, modification time and SHA-256.

    Raises:
        BortError: The file has changed since its reading began.
    """
    if is_hub(state.name):
        return {"name": state.name}
    digest = _digest(state.name)
    if SourceState.of(state.name) != state:
        raise BortError("changed while it was read; run the command again", file=state.name)
    return {**asdict(state), "name": Path(state.name).name, "sha256": digest}


def is_unchanged(source: str, known: dict[str, Any]) -> bool:
    """Whether a source still has the text that `described` saw; if a file's name or time differs, its digest decides.

    Raises:
        BortError: The file does not exist or cannot be read.
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
