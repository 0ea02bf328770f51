"""Writes an index incrementally; what has been committed survives a crash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.index.layout import ENDS, FILES, FORMAT, SCALES, TEXTS, VECTORS, Description, Stored, located
from bort.errors import BortError
from bort.files import FolderLock, sweep, sync_folder, write_aside
from bort.formats import check_format, stamp

_STATE = "unfinished.json"
Floats = NDArray[np.float32]


def rounded(vectors: Floats, stored: Stored) -> tuple[NDArray[Any], Floats]:
    """Quantise vectors, and compute the factor that scales each row back to length 1.

    Args:
        vectors: Vectors of length 1. *Shape:* (rows, width).
        stored: Type to store; int8 scales each row by its largest absolute value, which becomes 127.

    Returns:
        *Shapes:* (rows, width) and (rows,).
    """
    if stored == "int8":
        greatest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
        rows = np.rint(127 * vectors / np.maximum(greatest, 1e-12)).astype(np.int8)
    else:
        rows = vectors.astype("<f2")
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    return rows, (1 / np.maximum(lengths, 1e-12)).astype("<f4")


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds an unfinished index, which can be resumed."""
    return (folder / _STATE).is_file()


class IndexWriter:
    """Writes an index into a folder, locked until it is closed; an interrupted run resumes from its last commit.

    Args:
        folder: Output folder.
        description: Encoder, dimension, type and sources; an unfinished index must have been begun with the same.
        resume: Continue an unfinished index.

    Raises:
        BortError: The folder holds something else, or an unfinished index and `resume` is off; or another process
            is writing it.
    """

    def __init__(self, folder: Path, description: Description, *, resume: bool = False) -> None:
        self.folder, self.description = folder, description
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = FolderLock(folder)
        except BlockingIOError:
            raise BortError("is written by another process now", file=folder) from None
        self._begun = json.loads(json.dumps(asdict(description)))
        self._files: dict[str, IO[bytes]] = {}
        try:
            state = self._state(resume)
            self.read: int = state["read"]
            """Number of source texts read, including those left out."""
            self.count: int = state["count"]
            """Number of texts in the index."""
            self._bytes: int = state["bytes"]
            self._open()
            self.commit(self.read)  # a folder that holds files of a killed run also holds its state
        except BaseException:
            self.close()  # the error may be kept, and holds the writer
            raise

    def _open(self) -> None:
        """Open the files and cut off what was not committed."""
        widths = self.description.widths.items()
        lengths = {name: self.count * width for name, width in widths} | {TEXTS: self._bytes}
        for name in FILES:
            path = self.folder / name
            path.touch()
            if path.stat().st_size < lengths[name]:
                raise BortError("is shorter than what was committed; remove the folder, and begin anew", file=path)
            os.truncate(path, lengths[name])
            self._files[name] = open(path, "ab")  # noqa: SIM115

    def append(self, texts: Sequence[str], vectors: Floats) -> None:
        """Append texts and their vectors.

        Args:
            texts: Texts, in the order of the sources.
            vectors: Vectors of length 1. *Shape:* (texts, width).
        """
        encoded = [text.encode() for text in texts]
        ends = self._bytes + np.cumsum([len(one) for one in encoded], dtype=np.int64)
        rows, scales = rounded(vectors, self.description.stored)
        self._files[VECTORS].write(rows.tobytes())
        self._files[SCALES].write(scales.tobytes())
        self._files[TEXTS].write(b"".join(encoded))
        self._files[ENDS].write(ends.astype("<i8").tobytes())
        if len(texts):
            self._bytes = int(ends[-1])
        self.count += len(texts)

    def commit(self, read: int) -> None:
        """Flush everything added to disk, and record the state.

        Args:
            read: Number of source texts read so far.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.read = read
        with write_aside(self.folder / _STATE) as out:
            state = {"begun": self._begun, "read": read, "count": self.count, "bytes": self._bytes}
            json.dump({**stamp(FORMAT), **state}, out)

    def finish(self) -> Description:
        """Write the description with the checksums of all files, which completes the index."""
        sums = {}
        for name, file in self._files.items():
            file.close()
            with open(self.folder / name, "rb") as handle:
                sums[name] = {"sha256": hashlib.file_digest(handle, "sha256").hexdigest(), "bytes": handle.tell()}
        whole = replace(self.description, count=self.count, files=sums)
        whole.write(self.folder)
        (self.folder / _STATE).unlink(missing_ok=True)
        sweep(self.folder / _STATE)
        sync_folder(self.folder)
        return whole

    def close(self) -> None:
        """Close the files and release the folder; what was not committed is lost."""
        try:
            for file in self._files.values():
                file.close()
        finally:
            self._lock.close()

    def _state(self, resume: bool) -> Mapping[str, Any]:
        nothing = {"read": 0, "count": 0, "bytes": 0}
        file = self.folder / _STATE
        if not file.is_file():
            # A run that is killed before it has written its state leaves empty files at most.
            seen = (path for path in self.folder.iterdir() if not path.name.startswith("."))
            if any(path.name not in FILES or not path.is_file() or path.stat().st_size for path in seen):
                raise BortError("already exists; name another --out, or remove it first", file=self.folder)
            return nothing
        try:
            state: dict[str, Any] = json.loads(file.read_text("utf-8"))
            begun, read = state["begun"], state["read"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            raise BortError("is damaged; remove the folder, and begin anew", file=file) from None
        check_format(state, FORMAT, file, "remove the folder, and begin anew")
        if not read:
            return nothing  # it holds nothing yet that another run could spoil
        if not resume:
            raise BortError("holds an unfinished index; go on with --resume, or name another --out", file=self.folder)
        for name, value in self._begun.items():
            if name == "model" and (begun.get("model_sha256") or located(str(begun.get("model"))) == value):
                continue  # the same files may have another name
            if begun.get(name, value) != value:  # version 0.1.0 recorded no fingerprint
                rule = "differs from what the unfinished index was begun with; remove it, or name another --out"
                raise BortError(rule, file=self.folder, column=name, value=value)
        return state
