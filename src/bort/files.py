"""Atomic writes: everything goes to a temporary file or folder next to the target, which is then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import string
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from bort.errors import BortError

_PART = ".part"
_TOKEN_BYTES = 4
_HERE, _RENAME_EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of <linux/fs.h>; RENAME_SWAP of macOS has the same number."""
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


@contextlib.contextmanager
def write_aside(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path` that replaces it when the block ends without an exception.

    Args:
        path: The file to write; parent folders are created.
        mode: "w" (UTF-8 text, `\\n` line ends) or "wb"; with "+" the block may read what it has written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = _mode(path)
    # A new file follows the umask; a replacement is private until it gets the permissions of the old file.
    allowed = 0o666 if earlier is None else 0o600
    name, descriptor = _claim(path, lambda new: os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, allowed))
    held = os.dup(descriptor)
    try:
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if earlier is not None:
            name.chmod(earlier)
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    finally:
        os.close(held)


def _neighbour(path: Path) -> Path:
    """A random temporary name next to `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}{_PART}")


def _claim(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make a temporary neighbour of `path`, locked against `sweep` while its descriptor, or a copy, is open.

    Args:
        path: The final name.
        make: Creates and opens a file or folder of a given name.
    """
    sweep(path)
    while True:
        name = _neighbour(path)
        try:
            descriptor = make(name)
        except OSError as error:
            error.filename = str(path)  # the name that the user knows
            raise
        # Another process may have swept it before it was locked.
        if _lock(descriptor) is not False and name.exists():
            return name, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file or folder until its descriptor is closed; False if it is locked, None if locks are unsupported."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def sweep(path: str | Path) -> None:
    """Remove the temporary neighbours of `path` that killed processes left, and put back what one had set aside."""
    path = Path(path)
    _put_back(path)
    start, found = f".{path.name}.", []
    with contextlib.suppress(OSError):
        found = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(start)]
    for name in found:
        token = name.removeprefix(start).removesuffix(_PART)
        if name != start + token + _PART or len(token) != 2 * _TOKEN_BYTES or not {*token} <= {*string.hexdigits}:
            continue
        left = path.with_name(name)
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(descriptor):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _set_aside(path: Path) -> Path:
    """Where a folder is while another one takes its place in two steps; `sweep` does not remove this name."""
    return path.with_name(f".{path.name}.replaced")


def _put_back(path: Path) -> None:
    """Put back a folder that a process had set aside when it was killed."""
    old = _set_aside(path)
    if os.path.lexists(old):
        with contextlib.suppress(OSError):
            if os.path.lexists(path):  # the other one was published, and only the removal is missing
                _remove(old)
            else:
                os.replace(old, path)


def _remove(folder: Path) -> None:
    folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def _mode(path: Path) -> int | None:
    """The permissions of a file or folder; None if there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `path` that replaces it when the block ends without an exception.

    An existing folder of that name is replaced as a whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    def make(new: Path) -> int:
        new.mkdir()
        return os.open(new, os.O_RDONLY)

    aside, held = _claim(path, make)
    try:
        yield aside
        replace_folder(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    finally:
        os.close(held)


def replace_folder(aside: Path, path: Path) -> None:
    """Rename a finished folder on the same disk to `path`, durably, replacing a folder of that name as a whole.

    Linux and macOS exchange the two atomically. Elsewhere, and on file systems that cannot, `path` does not exist for a
    moment between two renames; if the process is killed then, the next one that writes there puts the old folder back.
    Permissions are kept; new files get those of the folder.
    """
    _put_back(path)
    folder_mode = _mode(path)
    if folder_mode is None:
        folder_mode = stat.S_IMODE(aside.stat().st_mode)
    for file in aside.rglob("*"):
        if file.is_file():
            earlier = _mode(path / file.relative_to(aside))
            file.chmod(folder_mode & 0o666 if earlier is None else earlier)  # some libraries create private files
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    aside.chmod(folder_mode)
    old = None
    if not path.exists():
        os.replace(aside, path)
    elif _exchange(aside, path):
        old = aside
    else:
        old = _set_aside(path)
        if os.path.lexists(old):  # a process was killed before it had removed it
            _remove(old)
        os.replace(path, old)
        try:
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # another process has put it back
                os.replace(old, path)
            raise
    sync_folder(path.parent)
    if old is not None:
        with contextlib.suppress(FileNotFoundError):  # another process has put it back, or replaces the same folder
            _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; False if the system or the file system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            status = library.renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE)
        else:
            status = library.renamex_np(*names, _RENAME_EXCHANGE)  # macOS
    except (AttributeError, OSError, TypeError):
        return False
    if status and (number := ctypes.get_errno()) not in _CANNOT:
        raise OSError(number, os.strerror(number), str(other))
    return not status


def folder_state(path: str | Path) -> list[tuple[str, int, int, int]]:
    """Inode, size and modification time of a folder's files by name, which change when it is replaced."""
    found = []
    with contextlib.suppress(OSError), os.scandir(path) as files:
        for file in files:
            with contextlib.suppress(OSError):
                stats = file.stat()
                found.append((file.name, stats.st_ino, stats.st_size, stats.st_mtime_ns))
    return sorted(found)


def read_folder(path: Path) -> dict[str, bytes]:
    """The contents of a folder's files, by name."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write files by name, which may be a path, into a folder, which replaces an existing one."""
    with folder_aside(path) as aside:
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)


def with_home(path: str) -> str:
    """Expand a leading `~/`, which no shell does in `--out=~/run`, in settings files, or in Python."""
    return os.path.expanduser(path) if path.startswith("~/") else path  # noqa: PTH111 - pathlib drops a / at the end


def is_address(name: str) -> bool:
    """Whether a name is an address in an object store, such as `s3://bucket/texts.parquet`."""
    return "://" in name


def check_local(setting: str, name: str) -> None:
    """Refuse an address where only paths are written to: it would become a folder of that name on this machine.

    Raises:
        BortError: It is an address.
    """
    if is_address(name):
        raise BortError("must be a path on this machine, not an address", setting=setting, value=name)


def check_apart(outputs: Iterable[tuple[str, str | None]], inputs: Iterable[str | None]) -> None:
    """Refuse outputs that would replace a file that the same command reads.

    Args:
        outputs: Settings and the files that they name; None and - are none.
        inputs: Paths or addresses; - is the file behind standard input. What is no file, such as a pipe, can be both.

    Raises:
        BortError: The first of them.
    """
    outputs = [(setting, name) for setting, name in outputs if name not in (None, "-")]
    if not outputs:
        return
    read = {_place("/dev/stdin" if name == "-" else name) for name in inputs if name is not None}
    read = {place for place in read if is_address(place) or os.path.isfile(place)}  # noqa: PTH113 - also an address
    for setting, name in outputs:
        if name is not None and _place(name) in read:
            rule = "would replace a file that this command reads; name another one"
            raise BortError(rule, setting=setting, value=name)


def _place(name: str) -> str:
    """The file behind a path, whatever links lead to it; an address stays as it is."""
    return name if is_address(name) else os.path.realpath(Path(name).expanduser())


def new_folder(path: str | Path) -> Path:
    """Check that `path` can take a new result: absent, or an empty folder. A leading `~` is the home folder.

    Raises:
        BortError: `path` is an address, or exists and is not an empty folder.
    """
    check_local("out", str(path))
    path = Path(path).expanduser()
    if is_vacant(path):
        return path
    if path.exists():
        raise BortError("already exists; name another --out, or remove it first", file=path)
    return path


def is_vacant(path: Path, apart_from: Collection[str] = ()) -> bool:
    """Whether `path` is an empty folder, apart from some names, and files that a killed `write_aside` may have left."""
    return path.is_dir() and all(
        file.name in apart_from or (file.name.startswith(".") and file.suffix == _PART) for file in path.iterdir()
    )


def sync_folder(path: Path) -> None:
    """Make a rename inside `path` durable, if the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FolderLock:
    """A lock on a folder against other processes, released when it is closed or deleted, or the process dies.

    Args:
        path: The folder.

    Raises:
        BlockingIOError: Another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        try:
            import fcntl
        except ImportError:
            return  # the system has no such locks
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # the file system has no such locks

    def close(self) -> None:
        """Release the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def read_yaml(path: str | Path, parse: Callable[[str], Any]) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        parse: Parses its text, as `yaml.safe_load` does.

    Raises:
        BortError: It cannot be read, or is not valid YAML; names the line.
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
