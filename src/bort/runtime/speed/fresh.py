"""The first answer of a new process: how long it takes, and in how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bort.errors import BortError

_CODE = """
import sys
from bort import Predictor
Predictor(sys.argv[1], threads=int(sys.argv[2])).predict(["A first answer is what a small model owes its user."])
try:  # the resource module would count what the parent had when it forked
    most = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
except OSError:
    import resource
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(1024 * most, flush=True)
"""


@dataclass(frozen=True)
class First:
    """A first answer.

    Args:
        seconds: From the start of the process to its answer.
        bytes: Most that lay in memory until then.
    """

    seconds: float
    bytes: int


def first_answer(folder: Path, threads: int) -> First:
    """Start a process that answers one text.

    Raises:
        BortError: It failed.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, str(folder), str(threads)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if not line:
            said = process.stderr.read().strip().splitlines()
            raise BortError(f"a new process could not answer: {said[-1] if said else 'it said nothing'}", file=folder)
    return First(seconds, int(line))
