"""Starts commands of `bort` in milliseconds: a process that has loaded everything forks a child for each.

    python launcher.py < requests > answers

A request is a JSON line: `argv`, `folder` to run in, `log` for what is printed; its answer is the process id. Perhaps
`file_bytes`, the largest file that the child may write; `more_memory_bytes`, how much more than now it may map;
`clock_seed`, which chooses how its clock jumps. Or `wait`, a process id; its answer is the exit status.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

LOADED = (
    "accelerate",
    "onnxruntime",
    "torch",
    "transformers",
    "sklearn.linear_model",
    "bort.cli.export",
    "bort.cli.extract",
    "bort.cli.finetune",
    "bort.cli.index",
    "bort.cli.inputs",
    "bort.cli.parser",
    "bort.cli.predict",
    "bort.cli.pretrain",
    "bort.cli.tokenizer",
    "bort.agora.run",
    "bort.export.run",
    "bort.ose.extract",
    "bort.predict.predictor",
    "bort.pretraining.pretrain",
    "bort.serve.app",
    "bort.serve.server",
)
DAY_SECONDS = 86400


def jumping(seed: int) -> Callable[[], float]:
    """A clock that someone sets, back and forth, by up to a month."""
    chance, ahead, clock = random.Random(seed), 0.0, time.time

    def now() -> float:
        nonlocal ahead
        if chance.random() < 0.3:
            ahead = chance.uniform(-30 * DAY_SECONDS, 30 * DAY_SECONDS)
        return clock() + ahead

    return now


def child(request: dict) -> int:
    """Run one command as the shell would."""
    os.setsid()
    os.chdir(request["folder"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.get("file_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    if "more_memory_bytes" in request:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + request["more_memory_bytes"],) * 2)
    if "clock_seed" in request:
        time.time = jumping(request["clock_seed"])
    from bort.__main__ import end_well, main

    end_well()
    sys.argv = ["bort", *request["argv"]]
    try:
        status = main(request["argv"])
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def serve() -> None:
    import importlib

    for name in LOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    print("ready", file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), file=answers)
            continue
        process = os.fork()
        if not process:
            status = 70
            try:
                status = child(request)
            finally:
                os._exit(status)
        print(process, file=answers)


if __name__ == "__main__":
    serve()
