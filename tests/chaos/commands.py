"""Commands in processes of their own, and a line for each that is disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COUNT, SEED = int(os.environ.get("BORT_CHAOS_COUNT", "9")), int(os.environ.get("BORT_CHAOS_SEED", "0"))


def record(test: str, **what: Any) -> None:
    """Keep what was done to a command, for the figures of a long run."""
    if file := os.environ.get("BORT_CHAOS_RECORD"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"test": test, "seed": SEED, **what}) + "\n")


class Launcher:
    """Starts commands from a process that has loaded all they need."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("launcher.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def start(self, argv: list[str], folder: Path, **limits: Any) -> int:
        return self._ask(**{"argv": argv, "folder": str(folder), "log": str(folder.parent / "log"), **limits})

    def wait(self, process: int) -> int:
        return self._ask(wait=process)

    def run(self, argv: list[str], folder: Path, **limits: Any) -> int:
        return self.wait(self.start(argv, folder, **limits))

    def close(self) -> None:
        self._process.communicate()


def told(folder: Path) -> str:
    """What the last command in a folder printed."""
    return (folder.parent / "log").read_text("utf-8", errors="replace")
