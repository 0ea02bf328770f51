"""What the spawned processes of a pool do when their parent is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

_LABELLING = """
import os
import time

from bort.predict.bulk.processes import WorkerProcesses


class Model:
    def open(self):
        return self


if __name__ == "__main__":
    with WorkerProcesses(Model(), 1) as workers:
        print(workers._pool.submit(os.getpid).result(), flush=True)
        workers._pool.submit(time.sleep, 60).result()
"""


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waits for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_process_that_labels_ends_with_its_killed_parent(tmp_path):
    (tmp_path / "script.py").write_text(_LABELLING)
    source = str(Path(__file__).parents[1] / "src")
    line = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": source}) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_alive(worker)
        parent.kill()
    deadline = time.monotonic() + 20
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
