"""Which checkpoint of a run is the newest whole one."""

from __future__ import annotations

import shutil
from pathlib import Path

COMPLETE = "complete.json"
"""Marks a checkpoint that was written to its end; one without it is what a killed process left."""


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a folder of `checkpoint-STEP`s; broken ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
