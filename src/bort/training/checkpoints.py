"""Complete checkpoints: how one is marked, and which is the newest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bort.files import write_aside

_COMPLETE = "complete.json"
"""Marks a completely written checkpoint; one without it was left by a killed process."""


def complete(checkpoint: Path, about: dict[str, Any]) -> None:
    """Mark a checkpoint as complete, and store in it what the `transformers` trainer does not."""
    with write_aside(checkpoint / _COMPLETE) as file:
        json.dump(about, file)


def about(checkpoint: Path) -> dict[str, Any]:
    """What `complete` stored in a checkpoint."""
    known: dict[str, Any] = json.loads((checkpoint / _COMPLETE).read_text("utf-8"))
    return known


def discard(folder: Path) -> None:
    """Delete a folder of checkpoints, their marks first: of a half-deleted one, none may pass for complete."""
    for mark in folder.glob(f"checkpoint-*/{_COMPLETE}"):
        mark.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder of `checkpoint-STEP`s; incomplete ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.rpartition("-")[2])
