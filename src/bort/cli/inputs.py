"""Missing inputs are reported immediately, before a command loads its libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.errors import BortError

DATA = {
    "finetune": ("train", "dev", "test", "unlabelled", "pool"),
    "check": ("files",),
    "evaluate": ("data",),
    "predict": ("input",),
    "suggest": ("input", "labelled"),
    "embed": ("input",),
    "index": ("texts",),
    "export": ("gate", "calibrate"),
    "tokenizer": ("texts",),
    "pretrain": ("corpus",),
    "extract": ("corpus",),
    "shrink": ("corpus",),
}
"""The settings of each command that name data: files, standard input, or hub data sets."""
MODELS = {
    "finetune": ("model", "teacher", "transform_model", "pool_model"),
    "check": ("model",),
    "evaluate": ("model",),
    "predict": ("model",),
    "suggest": ("model", "encoder"),
    "embed": ("model",),
    "index": ("model",),
    "export": ("model",),
    "pretrain": ("tokenizer", "init", "init_from", "teacher", "embedding_teacher"),
    "extract": ("tokenizer", "inherit", "teacher"),
    "shrink": ("model",),
}
"""The settings of each command that name a model or a tokenizer."""


def check_inputs(command: str, arguments: Any) -> None:
    """Reject files and folders that do not exist. Hub names, URLs and patterns are left to the command.

    Args:
        command: Its name.
        arguments: Its settings.

    Raises:
        BortError: The first that is missing.
    """
    for value in _values(arguments, DATA.get(command, ())):
        elsewhere = value in ("-", "hub") or any(mark in value for mark in ":*?[")
        if not elsewhere and not Path(value).exists():
            raise BortError("no such file; a data set on the hub is written owner/name:split", file=value)
    for value in _values(arguments, MODELS.get(command, ())):
        if value.startswith((".", "/", "~")) and not Path(value).exists():
            raise BortError("no such folder", file=value)


def _values(arguments: Any, names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        value = getattr(arguments, name)
        found += value if isinstance(value, list) else [value]
    return [str(value) for value in found if value]
