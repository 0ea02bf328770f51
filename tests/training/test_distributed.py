"""Two processes on this CPU (gloo) train as one does with twice the batch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bort.errors import BortError
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.pretrain import pretrain
from bort.pretraining.trainer import StepClock
from bort.training import distributed
from launcher import Launcher

ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
STEPS = 12

# accelerate shards on GPUs only. torch does it on CPUs as well, so what tells the two apart is all that is replaced.
AS_ON_GPUS = """
import os
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
from accelerate.state import PartialState
from accelerate.utils import DistributedType
PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.MULTI_GPU)
from bort.training import distributed
distributed.on_cpu = lambda: False
"""

TALK_WORKER = """
import sys, time
from pathlib import Path
from bort.errors import BortError
from bort.training import distributed
distributed.join()
first, file = distributed.is_first(), Path(sys.argv[1])
assert distributed.count() == 2
assert distributed.from_first("first" if first else "other") == "first"
def hand_over():
    if first:
        time.sleep(0.5)
        file.write_text("here")
    return file.read_text()
assert distributed.together(hand_over, first_alone=True) == "here"
distributed.wait()
def fail():
    if not first:
        raise BortError("must be even", value=3)
try:
    with distributed.told_once():
        distributed.together(fail)
except BortError as error:
    print(error)
    sys.exit(2)
"""

LEAVING_WORKER = """
import atexit, os
atexit.register(lambda: os.write(1, f"threads: {len(os.listdir('/proc/self/task'))}\\n".encode()))
from bort.training import distributed
distributed.join()
distributed.wait()
assert len(os.listdir("/proc/self/task")) > 1
"""


@pytest.fixture(scope="module")
def settings(world, tmp_path_factory) -> PretrainArguments:
    return world.pretraining(
        tmp_path_factory.mktemp("processes"),
        max_steps=STEPS,
        batch_size=8,
        accumulate=2,
        learning_rate=1e-2,
        dropout=0.0,
    )


@pytest.fixture(scope="module")
def one(settings) -> Path:
    """The run of a single process, with the batch of two."""
    pretrain(settings)
    return Path(settings.out)


def line(settings: PretrainArguments, out: Path, *more: str) -> list[str]:
    """The command of one of two processes."""
    settings = replace(settings, out=str(out), batch_size=settings.batch_size // 2, checkpoint_minutes=0.0)
    words = ["pretrain", "--corpus", *settings.corpus]
    for name in ("tokenizer", "architecture", "out", "corpus_cache", "max_steps", "batch_size", "accumulate"):
        words += [f"--{name}", str(getattr(settings, name))]
    for name in ("sequence_length", "learning_rate", "valid_share", "dropout", "precision", "checkpoint_minutes"):
        words += [f"--{name}", str(getattr(settings, name))]
    return [*words, *more]


def launch(command: list[str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *command]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)


def start(launcher: Launcher, words: list[str], folder: Path, **more: str) -> list[int]:
    """Start two processes as the launchers of PyTorch and accelerate do, but forked, for each loads all for seconds.

    That those launchers themselves may be used is shown by the tests that launch.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    given = {"CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    given |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        launcher.start(
            words, folder, folder / f"log-{rank}", environment={**given, "RANK": rank, "LOCAL_RANK": rank}, **more
        )
        for rank in ("0", "1")
    ]


def run_both(launcher: Launcher, words: list[str], folder: Path, **more: str) -> None:
    """Run a command in two processes that both end well."""
    left = {*start(launcher, words, folder, **more)}
    deadline = time.monotonic() + 300
    try:
        while left and time.monotonic() < deadline:
            for process in sorted(left):
                status = launcher.status(process)
                if status is not None:
                    left.remove(process)
                    assert status == 0, said(folder)
            time.sleep(0.01)
        assert not left, said(folder)
    finally:
        kill(launcher, left)


def killed(launcher: Launcher, words: list[str], folder: Path, file: Path, **more: str) -> None:
    """Start a command in two processes, and kill -9 both once `file` is there."""
    started = start(launcher, words, folder, **more)
    deadline = time.monotonic() + 240
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    there = file.exists()
    kill(launcher, started)  # and wait: a run's folder is locked until the last is gone
    assert there, f"no {file} appeared: {said(folder)}"


def kill(launcher: Launcher, processes: Iterable[int]) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        launcher.wait(process)


def said(folder: Path) -> str:
    return "".join(file.read_text("utf-8") for file in sorted(folder.glob("log-?")))


def curve(run: Path) -> dict[int, float]:
    events = [json.loads(text) for text in (run / "journal.jsonl").read_text("utf-8").splitlines()]
    return {event["step"]: event["loss"] for event in events if event["event"] == "step"}


def assert_same_training(left: Path, right: Path, weights) -> None:
    """The same losses at every step, and the same weights but for the order of additions."""
    assert curve(left).keys() == set(range(1, STEPS + 1))
    assert curve(left) == pytest.approx(curve(right), abs=2e-4)
    one, other = weights(left), weights(right)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], atol=2e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(settings, one, tmp_path, weights):
    done = launch([*ACCELERATE, "-m", "bort", *line(settings, tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).count("held-out loss") == 1
    assert_same_training(one, tmp_path / "two", weights)
    metrics = json.loads((tmp_path / "two/metrics.json").read_text("utf-8"))
    expected = json.loads((one / "metrics.json").read_text("utf-8"))
    assert metrics["processes"] == 2
    assert metrics["tokens"] == expected["tokens"] == STEPS * 16 * 32
    assert metrics["validation_loss"] == pytest.approx(expected["validation_loss"], abs=1e-4)


@pytest.mark.slow
def test_two_processes_learn_embeddings_as_one(launcher, settings, teacher_folder, tmp_path, weights):
    """Without the terms that are not a mean over rows: among the rows of a batch, and over tokens."""
    embedding = replace(
        settings,
        out=str(tmp_path / "one"),
        embedding_teacher=teacher_folder,
        rows="sentences",
        distinct_rows=100,
        similarity_weight=0.0,
    )
    pretrain(embedding)
    more = ["--embedding_teacher", teacher_folder, "--rows", "sentences", "--distinct_rows", "100"]
    more += ["--similarity_weight", "0"]
    run_both(launcher, line(embedding, tmp_path / "two", *more), tmp_path)
    assert_same_training(tmp_path / "one", tmp_path / "two", weights)


@pytest.mark.slow
def test_two_killed_processes_resume_with_the_data_in_the_same_place(launcher, settings, one, tmp_path, weights):
    words = line(settings, tmp_path / "two")
    killed(launcher, words, tmp_path, tmp_path / "two/checkpoints/checkpoint-5/complete.json")
    assert not (tmp_path / "two/metrics.json").exists()
    alone = replace(settings, out=str(tmp_path / "two"), batch_size=4, resume=True)
    with pytest.raises(BortError, match="started with 2 processes"):
        pretrain(alone)
    run_both(launcher, [*words, "--resume"], tmp_path)
    assert_same_training(one, tmp_path / "two", weights)


@pytest.mark.slow
def test_sharded_processes_train_the_same_and_resume(launcher, settings, one, tmp_path, weights):
    words = line(settings, tmp_path / "two", "--fsdp")
    checkpoint = tmp_path / "two/checkpoints/checkpoint-5"
    killed(launcher, words, tmp_path, checkpoint / "complete.json", first=AS_ON_GPUS)
    assert (checkpoint / "pytorch_model_fsdp.bin").is_file()  # or it did not shard
    run_both(launcher, [*words, "--resume"], tmp_path, first=AS_ON_GPUS)
    assert_same_training(one, tmp_path / "two", weights)


@pytest.mark.slow
def test_bad_input_is_told_once(settings, tmp_path):
    done = launch([*TORCHRUN, "-m", "bort", *line(replace(settings, tokenizer="/nosuch"), tmp_path / "two")])
    assert done.stderr.count("/nosuch: no such folder") == 1
    assert "exitcode  : 2" in done.stderr  # the process's; that of torchrun is always 1
    assert done.stdout == ""
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells them")
def test_no_thread_outlives_its_group(tmp_path):
    """One that does may abort the interpreter while that ends, and its exit status is lost."""
    (tmp_path / "worker.py").write_text(LEAVING_WORKER)
    done = launch([*TORCHRUN, str(tmp_path / "worker.py")])
    assert done.stdout.count("threads: 1\n") == 2, done.stderr


@pytest.mark.slow
def test_processes_talk(tmp_path):
    """And what only the second met is told by the first, with status 2.

    At times gloo's threads abort a process that ends before the others do, after it has told.
    """
    (tmp_path / "worker.py").write_text(TALK_WORKER)
    done = launch([*TORCHRUN, str(tmp_path / "worker.py"), str(tmp_path / "file")])
    assert done.stdout == "value 3: must be even\n", done.stderr
    assert done.returncode == 1  # the launcher's
    assert "exitcode  : 2" in done.stderr or "terminate called without an active exception" in done.stderr


def test_one_process_has_nobody_to_talk_to():
    distributed.join()
    assert distributed.is_first()
    assert distributed.count() == 1
    assert distributed.from_first(3) == 3
    assert distributed.together(lambda: 4, first_alone=True) == 4
    distributed.wait()


def test_the_first_clock_counts_and_is_read_once_a_step(monkeypatch):
    asked = []
    monkeypatch.setattr(distributed, "from_first", lambda value: asked.append(value) or 25.0)
    clock = StepClock(max_steps=None, max_seconds=100.0)
    assert [clock.progress(step) for step in (0, 0, 1, 1, 1)] == [0.25] * 5
    assert len(asked) == 2
    assert StepClock(max_steps=10, max_seconds=None).progress(5) == 0.5
    assert len(asked) == 2


def test_sharding_needs_gpus(settings, tmp_path):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BortError, match="needs GPUs"):
        pretrain(replace(settings, out=str(tmp_path / "run"), fsdp=True))
