"""What the spawned processes of a pool do when their parent is killed, or Ctrl-C is pressed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bort.files import write_aside
from bort.predict.bulk import processes
from bort.predict.bulk.processes import WorkerProcesses

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
_INTERRUPTED = """
import os
import signal

from bort.predict.bulk.processes import WorkerProcesses


class Model:
    def open(self):
        return self


if __name__ == "__mp_main__":
    os.kill(os.getpid(), signal.SIGINT)  # while a worker imports
if __name__ == "__main__":
    with WorkerProcesses(Model(), 1) as workers:
        print(workers._submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result())
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


def test_ctrl_c_is_left_to_the_parent_from_the_start(tmp_path):
    (tmp_path / "script.py").write_text(_INTERRUPTED)
    source = str(Path(__file__).parents[1] / "src")
    line = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": source})
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


class Model:
    def open(self):
        return self


def begin_a_file(job, predictor, path):
    with write_aside(path) as file:
        file.write("the first of many rows")
        time.sleep(60)


def let_files_last():
    processes.label_file = begin_a_file


def test_an_interrupted_pool_ends_at_once_and_leaves_no_temporary_file(tmp_path):
    def interrupted(workers):
        workers._submit(let_files_last).result()
        workers._submit(processes._label, None, tmp_path / "labels.csv")
        while not [*tmp_path.iterdir()]:
            time.sleep(0.01)
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), WorkerProcesses(Model(), 1) as workers:
        interrupted(workers)
    assert time.monotonic() - start < 50
    assert not [*tmp_path.iterdir()]
