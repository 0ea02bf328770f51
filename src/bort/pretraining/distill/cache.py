"""A teacher's outputs per row on disk: written once, resumed after an interruption, memory-mapped for reading.

The folder holds `cache.json` (what it was made from, and the number of complete rows) and, for each field, all items
concatenated (`NAME.bin`) and the index of each row's first item (`NAME.starts.bin`, int64). Rows are written in the
order of their numbers, in chunks; what a killed process left after the last complete chunk is truncated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.files import FolderLock, is_vacant, write_aside
from bort.formats import check_format, stamp

FORMAT = 1
_STATE = "cache.json"
_NOT_IN_0_1_0 = ("held_out", "random_weights")
"""Entries of a key that caches of version 0.1.0 lack; these caches stay usable."""


@dataclass(frozen=True)
class Field:
    """Type and shape of the items of one kind. A row may have any number of them."""

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of one item."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


class TeacherCache:
    """Open or create a cache folder. An incomplete one is locked until it is complete, closed or deleted.

    Args:
        folder: Path of the folder.
        key: What it is made from: a corpus, its masks, a teacher, what is kept. JSON values by name.
        fields: What is kept per row; a complete cache on disk may hold more fields.
        rows: Total number of rows.

    Raises:
        BortError: The folder holds something else, or a cache that was made from something else; or another process
            is filling it.
    """

    def __init__(self, folder: str | Path, key: Mapping[str, Any], fields: Mapping[str, Field], rows: int) -> None:
        self.folder, self.fields, self.rows = Path(folder), dict(fields), rows
        self.key = {"format": FORMAT, **key, "rows": rows}
        self.done = 0
        file = self.folder / _STATE
        if file.is_file():
            self._check(file)
        elif self.folder.is_dir() and not is_vacant(self.folder):
            raise BortError("holds something other than a teacher's cache; name another folder", file=self.folder)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = None if file.is_file() and self.complete else self._locked()
        if file.is_file():
            self._check(file)  # another process may have filled it before it was locked
        else:
            self._write_state()
        if self.complete:
            self.close()
        self._starts: dict[str, NDArray[np.int64]] = {}
        self._items: dict[str, NDArray[Any]] = {}

    def _locked(self) -> FolderLock:
        try:
            return FolderLock(self.folder)
        except BlockingIOError:
            rule = "another process asks the teacher for this cache; wait for it"
            raise BortError(rule, file=self.folder) from None

    def close(self) -> None:
        """Release the folder for other processes; the cache can still be read."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check(self, file: Path) -> None:
        try:
            state = json.loads(file.read_text("utf-8"))
            known, self.done = dict(state["key"]), state["done"]
            if type(self.done) is not int or self.done < 0:
                raise ValueError("done must be a whole number from 0")
            kept = {name: Field(dtype, tuple(shape)) for name, (dtype, shape) in state["fields"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BortError(f"is not the state of a teacher's cache: {error}", file=file) from None
        check_format({"bort": state.get("bort"), **known}, FORMAT, file, "remove it, or name another --teacher-cache")
        for name in sorted({*known, *self.key}):
            if name in _NOT_IN_0_1_0 and name not in known:
                continue
            if known.get(name) != json.loads(json.dumps(self.key.get(name))):
                rule = f"the cache was made with {known.get(name)!r}; remove it, or name another --teacher-cache"
                raise BortError(rule, file=self.folder, column=name, value=self.key.get(name))
        usable = self.fields.items() <= kept.items() if self.complete else self.fields == kept
        if not usable:
            rule = f"the cache keeps {_described(kept)}; remove it, or name another --teacher-cache"
            raise BortError(rule, file=self.folder, column="fields", value=_described(self.fields))
        for name, field in self.fields.items():
            starts = self.folder / f"{name}.starts.bin"
            size = starts.stat().st_size // 8 if starts.is_file() else 0
            if self.done and size < self.done + 1:
                raise BortError(f"must hold the starts of {self.done} rows", file=starts)
            items = self.folder / f"{name}.bin"
            last = int(np.fromfile(starts, np.int64, 1, offset=8 * self.done)[0]) if self.done else 0
            if self.done and (not items.is_file() or items.stat().st_size < last * field.size_bytes):
                raise BortError(f"must hold {last} items of {field.dtype}{list(field.shape)}", file=items)

    def _write_state(self) -> None:
        with write_aside(self.folder / _STATE) as file:
            fields = {name: (field.dtype, field.shape) for name, field in self.fields.items()}
            json.dump({**stamp(FORMAT), "key": self.key, "fields": fields, "done": self.done}, file, indent=2)
            file.write("\n")

    @property
    def complete(self) -> bool:
        """Whether all rows are cached."""
        return self.done == self.rows

    def append(self, chunk: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Append the next rows durably: all of them or, if the process is killed, none.

        Args:
            chunk: Items of each row, by field. *Shapes:* (items, \\*field.shape).
        """
        for name, field in self.fields.items():
            items = [np.ascontiguousarray(row[name], dtype=field.dtype) for row in chunk]
            starts = self.folder / f"{name}.starts.bin"
            first = int(np.fromfile(starts, np.int64, 1, offset=8 * self.done)[0]) if self.done else 0
            stops = first + np.cumsum([len(values) for values in items], dtype=np.int64)
            _extend(self.folder / f"{name}.bin", first * field.size_bytes, [values.tobytes() for values in items])
            head = [] if self.done else [np.zeros(1, np.int64).tobytes()]
            _extend(starts, 8 * (self.done + 1) if self.done else 0, [*head, stops.tobytes()])
        self.done += len(chunk)
        self._write_state()
        if self.complete:
            self.close()

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        """A row's items by field, copied from disk. *Shapes:* (items, \\*field.shape).

        Raises:
            BortError: The starts of the rows are negative or decrease.
        """
        if not self._items:
            self._open()
        row = {}
        for name, items in self._items.items():
            start, stop = self._starts[name][number : number + 2]
            row[name] = np.array(items[start:stop])
        return row

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, which maps the files itself."""
        return self.__dict__ | {"folder": self.folder.absolute(), "_lock": None, "_starts": {}, "_items": {}}

    def _open(self) -> None:
        for name, field in self.fields.items():
            self._starts[name] = np.fromfile(self.folder / f"{name}.starts.bin", np.int64, self.done + 1)
            starts, file = self._starts[name], self.folder / f"{name}.starts.bin"
            if starts[0] < 0 or (np.diff(starts) < 0).any():
                raise BortError("the starts of the rows must never fall", file=file)
            shape = (int(starts[-1]), *field.shape)
            self._items[name] = (
                np.memmap(self.folder / f"{name}.bin", field.dtype, "r", shape=shape)
                if shape[0]
                else np.empty(shape, field.dtype)
            )


def _described(fields: Mapping[str, Field]) -> str:
    return ", ".join(f"{name} of {field.dtype}{list(field.shape)}" for name, field in fields.items())


def _extend(path: Path, size: int, parts: Sequence[bytes]) -> None:
    """Truncate a file to a size and append to it."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.truncate(size)
        file.seek(size)
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
