"""The record of a folder's finished files, rewritten atomically."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from bort.errors import BortError
from bort.formats import check_format, stamp
from bort.predict.bulk.places import read_text, write_text

LEDGER = "_manifest.json"
"""Readers of table folders (Spark, Ray, Hive) skip names that begin with an underscore."""
_FORMAT = 1
_REST = 20
"""Between two writes passes this many times the time that one takes, as the record of many files is long."""


class Ledger:
    """The finished files of an output folder, and the outputs that were begun. Close it, or the last may be missing.

    Args:
        folder: Folder of the labelled files.
        made_by: The model and the settings; labels of others are not mixed with these.
        resume: Whether to continue an existing ledger, and keep its finished files.

    Raises:
        BortError: A ledger exists, and `resume` is off, it has another model or other settings, or it is damaged.
    """

    def __init__(self, folder: str, made_by: Mapping[str, Any], *, resume: bool) -> None:
        self._prefix = f"{folder.rstrip('/')}/"
        self.path = self._prefix + LEDGER
        self._made_by = json.loads(json.dumps(made_by))
        self._files: dict[str, dict[str, Any]] = {}
        self._begun: set[str] | None = set()
        self._next_write, self._is_written = 0.0, True
        text = read_text(self.path)
        if text is None:
            return
        made_by = self._read(text)
        if not self._files:
            return
        if not resume:
            rule = "holds labels already; --resume goes on with them, or name another --output"
            raise BortError(rule, file=folder)
        for name, value in self._made_by.items():
            if made_by.get(name, value) != value:  # version 0.1.0 recorded less
                rule = f"the files that are done have {name} {made_by.get(name)!r}; name another --output"
                raise BortError(rule, file=self.path, value=value)

    def _read(self, text: str) -> dict[str, Any]:
        """Take over the files of a ledger, and return what made them."""
        try:
            found = json.loads(text)
            check_format(found, _FORMAT, self.path, "label the files again, into another folder")
            made_by, files, begun = found["made_by"], found["files"], found.get("begun")
            for each in files.values():
                # Version 0.1.0 did not write it, and named the folder as it was asked for.
                within = each["output"].startswith(self._prefix)
                each.setdefault("place", self._place(each["output"]) if within else None)
            known = all(
                isinstance(each["state"], list)
                and isinstance(each["place"], str | None)
                and type(each["rows"]) is type(each["skipped"]) is int
                for each in files.values()
            )
            if not known or not isinstance(made_by, dict) or not all(isinstance(place, str) for place in begun or ()):
                raise ValueError
            self._files, self._begun = dict(files), None if begun is None else set(begun)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BortError("is damaged; label the files again, into another folder", file=self.path) from None
        return dict(made_by)

    def done(self, source: str, state: list[Any]) -> tuple[int, int] | None:
        """Rows and skipped rows of a file that is finished and has not changed since; None for any other file."""
        entry = self._files.get(source)
        return (entry["rows"], entry["skipped"]) if entry is not None and entry["state"] == state else None

    def check_outputs(self, outputs: Mapping[str, str]) -> None:
        """Refuse to replace another file's labels, and to label a finished file a second time under another name.

        The name of an output depends on all inputs of a call, so a call with other inputs may give other names.

        Args:
            outputs: Output of each source.

        Raises:
            BortError: A finished file had another output, or an output has the labels of another file.
        """
        owners = {entry["place"]: source for source, entry in self._files.items() if entry["place"] is not None}
        for source, output in outputs.items():
            place = self._place(output)
            before = self._files[source]["place"] if source in self._files else None
            if before not in (None, place):
                rule = f"has its labels in {before}, and with these inputs would get {place}; name another --output"
                raise BortError(rule, file=source)
            if (owner := owners.get(place, source)) != source:
                raise BortError(f"would replace {place}, the labels of {owner}; name another --output", file=source)

    def owns(self, source: str, output: str) -> bool:
        """Whether an existing output is this folder's own: of a finished file, or of one that was begun.

        Earlier versions did not record which were begun, so any may be.
        """
        return self._begun is None or source in self._files or self._place(output) in self._begun

    def _place(self, output: str) -> str:
        """The path of an output in the folder, which does not depend on how the folder is named."""
        return output.removeprefix(self._prefix)

    def begin(self, outputs: Collection[str]) -> None:
        """Record which outputs will be written now, so that one whose end is not recorded is known as ours."""
        if outputs:
            self._begun = {*(self._begun or ()), *map(self._place, outputs)}
            self._write()

    def add(self, source: str, output: str, state: list[Any], rows: int, skipped: int) -> None:
        """Record that a file is finished: at once, or within a small share of the time that has passed."""
        place = self._place(output)
        self._files[source] = {"output": output, "place": place, "rows": rows, "skipped": skipped, "state": state}
        if self._begun is not None:
            self._begun.discard(place)
        self._is_written = False
        if time.monotonic() >= self._next_write:
            self._write()

    def close(self) -> None:
        """Record all that is finished."""
        if not self._is_written:
            self._write()

    def _write(self) -> None:
        started = time.monotonic()
        content = {**stamp(_FORMAT), "made_by": self._made_by, "files": self._files}
        if self._begun is not None:
            content["begun"] = sorted(self._begun)
        write_text(self.path, json.dumps(content, indent=1) + "\n")  # ASCII: a file's name may be no valid Unicode
        ended = time.monotonic()
        self._next_write, self._is_written = ended + _REST * (ended - started), True
