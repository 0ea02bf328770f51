"""The record of a folder's finished files, rewritten atomically after each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.formats import check_format, stamp
from bort.predict.bulk.places import read_text, write_text

LEDGER = "_manifest.json"
"""Readers of table folders (Spark, Ray, Hive) skip names that begin with an underscore."""
_FORMAT = 1


class Ledger:
    """The finished files of an output folder.

    Args:
        folder: Folder of the labelled files.
        made_by: The model and the settings; labels of others are not mixed with these.
        resume: Whether to continue an existing ledger, and keep its finished files.

    Raises:
        BortError: A ledger exists, and `resume` is off, it has another model or other settings, or it is damaged.
    """

    def __init__(self, folder: str, made_by: Mapping[str, Any], *, resume: bool) -> None:
        self.path = f"{folder.rstrip('/')}/{LEDGER}"
        self._made_by = json.loads(json.dumps(made_by))
        self._files: dict[str, dict[str, Any]] = {}
        text = read_text(self.path)
        if text is None:
            return
        if not resume:
            rule = "holds labels already; --resume goes on with them, or name another --output"
            raise BortError(rule, file=folder)
        self._files = self._read(text)

    def _read(self, text: str) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(text)
            check_format(found, _FORMAT, self.path, "label the files again, into another folder")
            made_by, files = found["made_by"], found["files"]
            known = all(
                isinstance(each["state"], list) and type(each["rows"]) is type(each["skipped"]) is int
                for each in files.values()
            )
            if not known or not isinstance(made_by, dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BortError("is damaged; label the files again, into another folder", file=self.path) from None
        for name, value in self._made_by.items():
            if made_by.get(name) != value:
                rule = f"the files that are done have {name} {made_by.get(name)!r}; name another --output"
                raise BortError(rule, file=self.path, value=value)
        return dict(files)

    def done(self, source: str, state: list[Any]) -> tuple[int, int] | None:
        """Rows and skipped rows of a file that is finished and has not changed since; None for any other file."""
        entry = self._files.get(source)
        return (entry["rows"], entry["skipped"]) if entry is not None and entry["state"] == state else None

    def add(self, source: str, output: str, state: list[Any], rows: int, skipped: int) -> None:
        """Record that a file is finished."""
        self._files[source] = {"output": output, "rows": rows, "skipped": skipped, "state": state}
        content = {**stamp(_FORMAT), "made_by": self._made_by, "files": self._files}
        write_text(self.path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def fingerprint_of_model(model: str) -> str:
    """SHA-256 over the files of a model's folder; the name itself if it is not a folder."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    found = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        with open(file, "rb") as opened:
            found.update(f"{file.name}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()
