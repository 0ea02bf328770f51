"""Reads one input and sees that it was done as it must be: soon, in little memory, and with no other file."""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bort
from bort.errors import BortError

SLOW_SECONDS = 2.0
MEMORY_TIMES, MEMORY_BYTES = 20, 64 * 2**20
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_CODE = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *sys.path, Path(bort.__file__).parent}
_SYSTEM = ("/proc", "/sys", "/dev", "/usr/share/zoneinfo", "/usr/lib", "/lib")
_READABLE = tuple(f"{os.path.realpath(place)}/" for place in (*_CODE, *_SYSTEM) if place and Path(place).is_dir())


class WrongError(AssertionError):
    """A reader did what none may do."""


class _Watch:
    """What Python code opens, changes and starts while a reader reads."""

    def __init__(self) -> None:
        self.folder, self.seen, self._hooked = "", list[str](), False

    @contextmanager
    def of(self, folder: Path) -> Iterator[list[str]]:
        if not self._hooked:
            sys.addaudithook(self._heard)  # for good; it listens inside of `of` alone
            self._hooked = True
        self.folder, self.seen = f"{os.path.realpath(folder)}/", []
        try:
            yield self.seen
        finally:
            self.folder = ""

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event in _STARTS:
            self.seen.append(f"{event}{given!r:.200}")
        elif event == "open" and isinstance(given[0], str | bytes):
            writes = bool((given[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            self._touched(event, os.fsdecode(given[0]), writes)
        elif event in _CHANGES and isinstance(given[0], str | bytes):
            self._touched(event, os.fsdecode(given[0]), True)

    def _touched(self, event: str, name: str, writes: bool) -> None:
        place = os.path.realpath(name) if "\0" not in name else name
        inside = f"{place}/".startswith(self.folder)
        if not inside and (writes or not place.startswith(_READABLE)):
            self.seen.append(f"{event} {'written' if writes else 'read'}: {place}")


_WATCH = _Watch()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Let the peak be what is in use now."""
    with suppress(OSError):
        file = os.open("/proc/self/clear_refs", os.O_WRONLY)
        os.write(file, b"5")
        os.close(file)


def names(folder: str | Path) -> set[str]:
    """All that is in a folder."""
    found = set()
    for entry in os.scandir(folder):
        found.add(entry.path)
        if entry.is_dir(follow_symlinks=False):
            found |= names(entry.path)
    return found


def probe(read: Callable[[Path], Any], folder: Path, size: int, around: set[str]) -> str:
    """Read a folder that someone else wrote.

    Args:
        read: Reads it.
        folder: The folder.
        size: Bytes of what is in it that may be wrong.
        around: What is in its parent, by `names`.

    Returns:
        The refusal; empty where it was read.

    Raises:
        WrongError: It took too long or too much memory, said more than a line, or touched something else.
    """
    refused, seconds, peak, seen = _measured(read, folder)
    if seconds > SLOW_SECONDS or peak > MEMORY_TIMES * size + MEMORY_BYTES:  # it may have loaded a library, once
        refused, seconds, peak, seen = _measured(read, folder)
    if seconds > SLOW_SECONDS:
        raise WrongError(f"took {seconds:.1f} s")
    if peak > MEMORY_TIMES * size + MEMORY_BYTES:
        raise WrongError(f"took {peak / 2**20:.0f} MiB for {size} bytes")
    if "\n" in refused:
        raise WrongError(f"a refusal of several lines: {refused!r}")
    if seen:
        raise WrongError(f"touched what is not its own: {seen[:3]}")
    if (now := names(folder.parent)) != around:
        raise WrongError(f"left {sorted(now - around)[:3]}, took {sorted(around - now)[:3]}")
    return refused


def _measured(read: Callable[[Path], Any], folder: Path) -> tuple[str, float, int, list[str]]:
    """The refusal, the seconds, the most memory beyond what there was, and what was touched."""
    refused = ""
    _forget_peak()
    before, began = _peak_bytes(), time.process_time()
    with _WATCH.of(folder.parent) as seen, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of odd numbers
        try:
            read(folder)
        except BortError as error:
            refused = str(error)
    return refused, time.process_time() - began, _peak_bytes() - before, seen
