"""The one exception for input that the user can correct."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_UNSET = object()
_LONGEST_VALUE = 80
_NO_MEMORY = re.compile(
    r"can't allocate memory|bad_?alloc|out of memory|can't start new thread|could not create a primitive"
    r"|failed to map segment|cannot allocate memory"
    r"|error return without exception set",  # CPython's parser and compiler, when out of memory
    re.I,
)


class BortError(Exception):
    """Bad input: the command line prints it as one line and exits with status 2, without a traceback.

    Args:
        rule: What must hold, as a sentence without a full stop ("must be a number").
        file: Where the input came from.
        line: Line of that file, counted from 1.
        column: Name of the column or field of that file.
        setting: Name of the setting (as in the dataclass), for values that the user passed to a command.
        value: The value that breaks the rule; long ones are shortened.

    Example:
        >>> print(BortError("must be a number", file="train.csv", line=3, column="label", value="high"))
        train.csv:3: column 'label': value 'high': must be a number
    """

    def __init__(
        self,
        rule: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        column: str | None = None,
        setting: str | None = None,
        value: object = _UNSET,
    ) -> None:
        self.rule, self.file, self.line, self.column, self.setting = rule, file, line, column, setting
        place = "" if file is None else str(file) if line is None else f"{file}:{line}"
        parts = [place] if place else []
        if column is not None:
            parts.append(f"column {column!r}")
        if setting is not None:
            parts.append(flag(setting))
        if value is not _UNSET:
            shown = repr(value)
            if len(shown) > _LONGEST_VALUE:
                shown = shown[: _LONGEST_VALUE - 1] + "…"
            parts.append(f"value {shown}")
        super().__init__(": ".join([*parts, rule]))


def flag(setting: str) -> str:
    """A setting's command-line flag: `max_epochs` is `--max-epochs`."""
    return "--" + setting.replace("_", "-")


@contextlib.contextmanager
def packages_installed(file: str | Path | None = None) -> Iterator[None]:
    """Name the package that the block imports and that is not installed, as where bort predicts without torch.

    Args:
        file: What the package is needed for.

    Raises:
        BortError: There is one.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "bort").partition(".")[0]
        if package == "bort":
            raise
        raise BortError(f"needs {package}, which is not installed", file=file) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; libraries raise exceptions of their own for this."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def lines_of(error: BaseException) -> list[str]:
    """The lines of a library's exception message, at least one: the name of its class if it has no message."""
    if out_of_memory(error):
        return ["there is not enough memory"]
    return (str(error).strip() or type(error).__name__).splitlines()
