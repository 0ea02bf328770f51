"""Whole files or none: everything the product writes goes aside first, then takes its name in one step."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from bort.errors import BortError

_PART = ".part"


@contextlib.contextmanager
def write_aside(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` that replaces it when the block ends without an exception.

    Args:
        path: The file to write; parent folders are made.
        mode: "w" (UTF-8 text, `\\n` line ends) or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    try:
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Give an empty neighbour folder that takes the place of `path` when the block ends without an exception.

    An existing folder of that name is replaced as a whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART))
    try:
        yield aside
        replace_folder(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def replace_folder(aside: Path, path: Path) -> None:
    """Let a finished folder beside `path` take its name, durably; an existing folder of that name goes as a whole."""
    for file in aside.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~_umask())  # some libraries write private files
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    aside.chmod(0o777 & ~_umask())
    if path.exists():
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
        try:
            os.replace(path, old / path.name)
            os.replace(aside, path)
        except BaseException:
            if not path.exists():
                os.replace(old / path.name, path)
            old.rmdir()
            raise
        shutil.rmtree(old)
    else:
        os.replace(aside, path)
    sync_folder(path.parent)


def read_folder(path: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write files by name into a folder, which takes the place of an earlier one of that name."""
    with folder_aside(path) as aside:
        for name, content in files.items():
            (aside / name).write_bytes(content)


def new_folder(path: str | Path) -> Path:
    """Check that `path` can take a new result: absent, or an empty folder.

    Raises:
        BortError: Something is there already.
    """
    path = Path(path)
    if is_vacant(path):
        return path
    if path.exists():
        raise BortError("already exists; name another --out, or remove it first", file=path)
    return path


def is_vacant(path: Path) -> bool:
    """Whether `path` is a folder that holds nothing but what a killed `write_aside` may have left in it."""
    return path.is_dir() and all(file.name.startswith(".") and file.suffix == _PART for file in path.iterdir())


def sync_folder(path: Path) -> None:
    """Make a rename inside `path` durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_yaml(path: str | Path, parse: Callable[[str], Any]) -> Any:
    """Read a YAML file.

    Args:
        path: Which.
        parse: Makes something of its text, as `yaml.safe_load` does.

    Raises:
        BortError: It cannot be read, or is no YAML, with the line.
    """
    import yaml

    try:
        return parse(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise BortError("no such file", file=path) from None
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=path) from None
    except UnicodeDecodeError as error:
        raise BortError("must be UTF-8", file=path, line=error.object.count(b"\n", 0, error.start) + 1) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        rule = f"must be valid YAML ({getattr(error, 'problem', None) or type(error).__name__})"
        raise BortError(rule, file=path, line=None if mark is None else mark.line + 1) from None
