"""Files by path or by address: patterns, and object stores whose files are fetched and put back whole."""

from __future__ import annotations

import contextlib
import glob
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bort.errors import BortError, lines_of
from bort.files import write_aside

_WILD = re.compile(r"[*?\[]")
_LOCAL = "file://"


def is_address(name: str) -> bool:
    """Whether a name is that of a file in an object store, such as `s3://bucket/texts.parquet`."""
    return "://" in name


def expand(names: Sequence[str]) -> list[str]:
    """The files that paths, patterns (`in/*.parquet`, `**` for any folders) and addresses name, each once.

    Args:
        names: `file://` is a path. A pattern's files are sorted; a file that has such a name goes before the pattern.

    Raises:
        BortError: A pattern that nothing has, or a store that cannot be asked.
    """
    found: list[str] = []
    for name in names:
        name = name.removeprefix(_LOCAL)
        path = name if is_address(name) else str(Path(name).expanduser())
        if not _WILD.search(name) or Path(path).exists():
            found.append(path)
            continue
        files = _listed(name) if is_address(name) else glob.glob(path, recursive=True)  # noqa: PTH207 - any path, also an absolute one
        files = [each for each in files if is_address(each) or Path(each).is_file()]
        if not files:
            raise BortError("no file has such a name", value=name)
        found += sorted(files)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def as_file(name: str) -> Iterator[str]:
    """Give a file as a path; one of a store is copied for the time of the block.

    Raises:
        BortError: It cannot be fetched.
    """
    if not is_address(name):
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, name.rpartition("/")[2]))
        with _told(name, "read") as (store, place):
            store.get_file(place, path)
        yield path


@contextlib.contextmanager
def written_to(name: str) -> Iterator[str]:
    """Give a path to be written, which goes to `name` when the block ends without an exception.

    Raises:
        BortError: It cannot be stored; or one that the block raises, which then names the file as it is given here.
    """
    if not is_address(name):
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name.rpartition("/")[2])
        with _named(str(path), name):
            yield str(path)
        with _told(name, "written") as (store, place):
            store.makedirs(store._parent(place), exist_ok=True)
            for file in sorted(path.parent.iterdir()):  # rows that could not be read may lie beside it
                store.put_file(str(file), f"{store._parent(place)}/{file.name}")


def state_of(name: str) -> list[Any]:
    """What tells that a file has changed: its size, and when it was written or what its store says of its content.

    Raises:
        BortError: There is none.
    """
    if not is_address(name):
        try:
            found = Path(name).stat()
        except OSError as error:
            raise BortError(f"cannot be read: {error.strerror or error}", file=name) from None
        return [found.st_size, found.st_mtime_ns]
    with _told(name, "read") as (store, place):
        about = store.info(place)
        keys = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
        return [about.get("size"), *(str(about[key]) for key in keys if about.get(key) is not None)][:2]


def is_there(name: str) -> bool:
    """Whether there is such a file.

    Raises:
        BortError: Its store cannot be asked.
    """
    if not is_address(name):
        return Path(name).is_file()
    with _told(name, "read") as (store, place):
        return bool(store.exists(place))


def read_text(name: str) -> str | None:
    """A small file, or None where there is none.

    Raises:
        BortError: It cannot be read.
    """
    if not is_address(name):
        try:
            return Path(name).read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BortError(f"cannot be read: {error}", file=name) from None
    with _told(name, "read") as (store, place):
        return str(store.cat_file(place).decode("utf-8")) if store.exists(place) else None


def write_text(name: str, text: str) -> None:
    """Write a small file, in one step.

    Raises:
        BortError: It cannot be written.
    """
    if is_address(name):
        with _told(name, "written") as (store, place):
            store.makedirs(store._parent(place), exist_ok=True)
            store.pipe_file(place, text.encode())
        return
    with write_aside(name) as file:
        file.write(text)


def _store(name: str) -> tuple[Any, str]:
    """The store of an address, as fsspec has it, and the place there.

    Ray Data reads with Arrow's file systems, and with those of fsspec where Arrow has none; so does this. Arrow brings
    S3, Google's and Hadoop's; a package for fsspec that is installed goes before it, for it knows more ways to log in.
    """
    import fsspec

    try:
        store, place = fsspec.core.url_to_fs(name)
        return store, str(place)
    except (ImportError, ValueError):
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        system, place = FileSystem.from_uri(name)
        return ArrowFSWrapper(system), str(place)


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[tuple[Any, str]]:
    """Word what a store raises, of whatever library, as bad input."""
    try:
        yield _store(name)
    except Exception as error:
        line = lines_of(error)[0]
        missing = isinstance(error, FileNotFoundError)
        raise BortError("no such file" if missing else f"cannot be {what}: {line}", file=name) from None


def _listed(pattern: str) -> list[str]:
    """The files of a store that have a pattern."""
    fixed = _WILD.split(pattern)[0].rpartition("/")[0] + "/"
    with _told(pattern, "read") as (store, place):
        _, root = _store(fixed)
        root = root.rstrip("/")
        return [f"{fixed}{str(each).removeprefix(root).lstrip('/')}" for each in store.glob(place)]


@contextlib.contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Let errors about a copy name what it is a copy of."""
    try:
        yield
    except BortError as error:
        raise BortError(str(error).replace(path, name)) from None
