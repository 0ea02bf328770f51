"""Commands in processes of their own, and a line for each that is disturbed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

COUNT, SEED = int(os.environ.get("BORT_CHAOS_COUNT", "9")), int(os.environ.get("BORT_CHAOS_SEED", "0"))


def record(test: str, **what: Any) -> None:
    """Keep what was done to a command, for the figures of a long run."""
    if file := os.environ.get("BORT_CHAOS_RECORD"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"test": test, "seed": SEED, **what}) + "\n")


def told(folder: Path) -> str:
    """What the last command in a folder printed."""
    return (folder.parent / "log").read_text("utf-8", errors="replace")
