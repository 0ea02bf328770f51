"""Files by path, pattern or object store address; files of a store are downloaded and uploaded whole."""

from __future__ import annotations

import contextlib
import glob
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bort.data.tables.readers import is_hub_name
from bort.errors import BortError, lines_of
from bort.files import is_address, write_aside

_WILD = re.compile(r"[*?\[]")
_LOCAL = "file://"


def expand(names: Sequence[str]) -> list[str]:
    """Expand paths, patterns (`in/*.parquet`, `**` for any folders) and addresses to files, without duplicates.

    Args:
        names: `file://` is a path. A pattern's files are sorted; an existing file of that name takes precedence. A
            hub name stays as it is, also with a slice, unless it is a pattern of existing files.

    Raises:
        BortError: A pattern matches nothing, or a store cannot be accessed.
    """
    found: list[str] = []
    for name in names:
        name = name.removeprefix(_LOCAL)
        path = name if is_address(name) else str(Path(name))
        if not _WILD.search(name) or (is_there(name) if is_address(name) else Path(path).exists()):
            found.append(path)
            continue
        files = _listed(name) if is_address(name) else glob.glob(path, recursive=True)  # noqa: PTH207 - any path, also an absolute one
        files = [each for each in files if is_address(each) or Path(each).is_file()]
        if not files and is_hub_name(name):
            files = [name]  # a slice, such as train[:10%]
        if not files:
            raise BortError("no file has such a name", value=name)
        found += sorted(files)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def as_file(name: str) -> Iterator[str]:
    """Give a local path of a file; a store's file is downloaded for the duration of the block.

    Raises:
        BortError: The file cannot be downloaded.
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
def written_to(name: str, *, beside: str | None = None) -> Iterator[str]:
    """Give a path to write to; a store gets the file when the block ends without an exception.

    Args:
        name: The file.
        beside: A file that the block may write next to it; if it does not, a store's earlier one is removed.

    Raises:
        BortError: The file cannot be stored. The block's own errors are raised with `name` in place of the local path.
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
            for file in sorted(path.parent.iterdir()):  # maybe also a file of the rows that could not be read
                store.put_file(str(file), f"{store._parent(place)}/{file.name}")
            if beside is not None and not path.with_name(beside.rpartition("/")[2]).exists():
                _, earlier = _store(beside)
                if store.exists(earlier):
                    store.rm_file(earlier)


def state_of(name: str) -> list[Any]:
    """What shows that a file has changed: its size, and its modification time or the ETag, hash or time of its store.

    Raises:
        BortError: The file cannot be read.
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
    """Whether a file exists.

    Raises:
        BortError: Its store cannot be accessed.
    """
    if not is_address(name):
        return Path(name).is_file()
    with _told(name, "read") as (store, place):
        return bool(store.exists(place))


def read_text(name: str) -> str | None:
    """Read a small file; None if it does not exist.

    Raises:
        BortError: The file cannot be read.
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
    """Write a small file atomically.

    Raises:
        BortError: The file cannot be written.
    """
    if is_address(name):
        with _told(name, "written") as (store, place):
            store.makedirs(store._parent(place), exist_ok=True)
            store.pipe_file(place, text.encode())
        return
    with write_aside(name) as file:
        file.write(text)


def _store(name: str) -> tuple[Any, str]:
    """The file system of an address, with fsspec's interface, and the path in it.

    fsspec's file systems come first, since they support more ways to log in. If fsspec has none installed for the
    address, Arrow's are used (S3, Google Cloud Storage, Hadoop).
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
    """Give a store and a path; convert any exception of the store's library to a `BortError`."""
    try:
        yield _store(name)
    except Exception as error:
        line = lines_of(error)[0]
        missing = isinstance(error, FileNotFoundError)
        raise BortError("no such file" if missing else f"cannot be {what}: {line}", file=name) from None


def _listed(pattern: str) -> list[str]:
    """The files of a store that match a pattern."""
    fixed = _WILD.split(pattern)[0].rpartition("/")[0] + "/"
    with _told(pattern, "read") as (store, place):
        _, root = _store(fixed)
        root = root.rstrip("/")
        return [f"{fixed}{str(each).removeprefix(root).lstrip('/')}" for each in store.glob(place)]


@contextlib.contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Replace the path of a local copy in errors by the original name."""
    try:
        yield
    except BortError as error:
        raise BortError(str(error).replace(path, name)) from None
