"""A disk cache of paid answers, keyed by the request and shared by all runs and processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bort.errors import BortError
from bort.formats import check_format, stamp
from bort.progress import say

_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS layout (format INTEGER NOT NULL, bort TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (asked TEXT PRIMARY KEY, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS charges (
    owner TEXT NOT NULL, time REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL NOT NULL
);
"""
_BUSY_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.2


class Charge(NamedTuple):
    """Tokens and cost of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


def default_folder() -> Path:
    """Return the default folder of answers that all runs share: `bort/answers` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bort" / "answers"


class AnswerCache:
    """The answers of one model or command under one set of instructions: a SQLite file in a folder of such files.

    An answer and its charge are written in one transaction and synced to disk, so a killed process loses neither, and
    several processes can write at once. Requests are stored as hashes only.

    Args:
        folder: Folder of the files; created if missing.
        asked_of: Everything that answers depend on except the text: model, instructions, examples, labels. Its hash is
            the name of the file.
        owner: The run that charges are attributed to.

    Raises:
        BortError: The folder cannot be created, or the file is not a SQLite file or has another format version.
    """

    def __init__(self, folder: Path, asked_of: Mapping[str, Any], owner: str = "") -> None:
        self._file = folder / f"{digest(asked_of)[:32]}.sqlite"
        self._owner = owner
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BortError(f"cannot be made: {error.strerror or error}", file=folder) from None
        with self._open() as file:
            file.executescript(_SCHEMA)
            written = stamp(_FORMAT)
            file.execute("INSERT INTO layout SELECT :format, :bort WHERE NOT EXISTS (SELECT 1 FROM layout)", written)
            found = dict(zip(written, file.execute("SELECT format, bort FROM layout").fetchone(), strict=True))
        check_format(found, _FORMAT, self._file, "remove it, or name another --answer-cache")

    def known(self, asked: Iterable[str]) -> dict[str, Any]:
        """Return the cached answers, by `digest` of the request."""
        found = {}
        with self._open() as file:
            for name in asked:
                row = file.execute("SELECT answer FROM answers WHERE asked = ?", (name,)).fetchone()
                if row is not None:
                    found[name] = json.loads(row[0])
        return found

    def keep(self, answers: Mapping[str, Any], charge: Charge | None = None) -> None:
        """Write answers, by `digest` of the request, and their charge."""
        with self._open() as file:
            rows = [(name, json.dumps(answer)) for name, answer in answers.items()]
            file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            if charge is not None:
                file.execute("INSERT INTO charges VALUES (?, ?, ?, ?, ?)", (self._owner, time.time(), *charge))

    def charged(self) -> tuple[int, Charge]:
        """Return the number of requests that the owner has paid for, and their total charge."""
        what = "COUNT(*), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(usd)"
        with self._open() as file:
            row = file.execute(f"SELECT {what} FROM charges WHERE owner = ?", (self._owner,)).fetchone()
        return row[0], Charge(int(row[1]), int(row[2]), row[3])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold an exclusive lock: other processes with the same instructions wait, then find the answers here."""
        try:
            import fcntl
        except ImportError:
            yield  # a system without such locks
            return
        told = False
        with open(self._file.with_suffix(".lock"), "ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not told:
                        say("another process asks the same; waiting for its answers")
                    told = True
                    time.sleep(_LOOK_AGAIN_SECONDS)
                    continue
                except OSError:
                    pass  # a file system without such locks
                break
            yield

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as file, file:
                file.execute("PRAGMA synchronous = FULL")
                yield file
        except (sqlite3.Error, ValueError, TypeError) as error:  # the last two: malformed rows
            told = " ".join(str(error).split())
            raise BortError(f"the cache of answers cannot be used: {told}", file=self._file) from None


def digest(asked: Any) -> str:
    """Return a hash of a request that is the same in every process."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
