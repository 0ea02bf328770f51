"""One run on a GPU machine: the pre-training step measured, then bort-nano trained for what is left of ten minutes.

    python -m benchmarks.gpu.run --archive build/nano.tar.xz --out $OUT --work /tmp/nano --part-mib 15

OUT gets the logs, `results/gpu_step.json` and the trained model, cut into parts where `--part-mib` says so. `--work`
keeps the checkpoint: the same command with more `--minutes` trains on. What follows `--` goes to
`benchmarks.nano.train`.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.gpu.pack import unpack
from bort.files import write_aside

_AROUND_TRAINING_SECONDS = 45.0
"""To load everything before the training's clock starts, and to write the model after it."""
_SPARSELY = ("--log_every", "500", "--save_every", "10000")
"""A GPU takes some hundred steps a second, and a checkpoint is 155 MB."""


@dataclass(frozen=True)
class Deadline:
    """When all has to be over."""

    at: float

    @classmethod
    def after(cls, minutes: float) -> Deadline:
        return cls(time.monotonic() + 60 * minutes)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.at - time.monotonic()


def run(module: str, words: Sequence[str], log: Path, seconds: float) -> bool:
    """Run a module of this checkout in a process of its own, and end it with all that it started when time is up.

    Returns:
        Whether it did what it should; the log says the rest.
    """
    command = [sys.executable, "-m", module, *words]
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"{module}: stopped after {seconds:.0f} s, see {log.name}", flush=True)
            return False
    print(f"{module}: {'done' if code == 0 else f'failed ({code})'}, see {log.name}", flush=True)
    return code == 0


def parts(folder: Path, out: Path, part_bytes: int) -> list[Path]:
    """Write a folder as one tar, in parts of at most so many bytes; `cat` joins them again.

    Args:
        folder: Its files are in the tar under its name.
        out: The tar; parts have `.0`, `.1`, … after its name.
        part_bytes: 0 leaves it whole.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(folder, folder.name)
    content = made.getvalue()
    size = part_bytes or len(content)
    starts = range(0, len(content), size)
    names = [out] if len(starts) == 1 else [out.with_name(f"{out.name}.{number}") for number in range(len(starts))]
    for old in out.parent.glob(f"{out.name}*"):
        old.unlink()
    for name, start in zip(names, starts, strict=True):
        with write_aside(name, "wb") as file:
            file.write(content[start : start + size])
    return names


def arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--archive", type=Path, required=True, help="what benchmarks.gpu.pack wrote")
    made.add_argument(
        "--out", type=Path, default=os.environ.get("OUT"), help="folder of what is taken home; by default $OUT"
    )
    made.add_argument("--work", type=Path, help="folder of texts and checkpoints; by default OUT/work")
    made.add_argument("--device", default="cuda", help="of the training; cpu to try it out")
    made.add_argument("--minutes", type=float, default=8.0, help="of training at most")
    made.add_argument("--limit", type=float, default=9.6, help="minutes of the whole run")
    made.add_argument("--step-minutes", type=float, default=2.5, help="of measuring the step at most; 0 leaves it out")
    made.add_argument(
        "--step",
        default="",
        help="flags of benchmarks.gpu.step in one word, as in --step='--no-compile --batch-size 16'",
    )
    made.add_argument("--part-mib", type=float, default=0.0, help="cut the model into parts of this size; 0: whole")
    made.add_argument("train", nargs="*", metavar="-- FLAGS", help="flags of benchmarks.nano.train")
    told = made.parse_args()
    if told.out is None:
        made.error("--out is needed where $OUT is not set")
    told.out = Path(told.out).absolute()
    told.work = (told.work or told.out / "work").absolute()
    return told


def main() -> int:
    told = arguments()
    deadline = Deadline.after(told.limit)
    packed_at = unpack(told.archive, told.work)
    well = True
    if told.step_minutes:
        words = ["--out", str(told.out), "--packed-at", packed_at, *told.step.split()]
        well = run("benchmarks.gpu.step", words, told.out / "step.log", min(60 * told.step_minutes, deadline.left))
    minutes = min(told.minutes, (deadline.left - _AROUND_TRAINING_SECONDS) / 60)
    if minutes <= 0:
        print("no time is left for training; give a longer --limit")
        return 1
    trained = told.work / "run"
    words = ["--texts", str(told.work / "texts"), "--teacher", str(told.work / "teacher"), "--out", str(trained)]
    words += ["--device", told.device, "--minutes", f"{minutes:.4f}", *_SPARSELY, *told.train]
    print(f"training for {minutes:.1f} minutes", flush=True)
    well &= run("benchmarks.nano.train", words, told.out / "train.log", deadline.left)
    if (trained / "model" / "config.json").exists():
        for file in parts(trained / "model", told.out / "model.tar", int(told.part_mib * 2**20)):
            print(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
