"""Complete checkpoints: how one is marked, and which is the newest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bort.files import write_aside

_COMPLETE = "complete.json"
"""Marks a completely written checkpoint; one without it was left by a killed process."""
_KEPT = 2
"""Checkpoints that are kept."""


def complete(checkpoint: Path, about: dict[str, Any]) -> None:
    """Mark a checkpoint as complete, store in it what the `transformers` trainer does not, and delete old ones.

    The trainer would delete those with the oldest dates. If the clock was set back, that is the new one.
    """
    with write_aside(checkpoint / _COMPLETE) as file:
        json.dump(about, file)
    for old in sorted(checkpoint.parent.glob("checkpoint-*"), key=step_of)[:-_KEPT]:
        _delete(old)


def about(checkpoint: Path) -> dict[str, Any]:
    """What `complete` stored in a checkpoint."""
    known: dict[str, Any] = json.loads((checkpoint / _COMPLETE).read_text("utf-8"))
    return known


def discard(folder: Path) -> None:
    """Delete a folder of checkpoints, their marks first: of a half-deleted one, none may pass for complete."""
    for checkpoint in folder.glob("checkpoint-*"):
        _delete(checkpoint)
    shutil.rmtree(folder, ignore_errors=True)


def _delete(checkpoint: Path) -> None:
    (checkpoint / _COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


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
