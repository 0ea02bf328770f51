"""Starts commands of `bort` in milliseconds: a process that has loaded everything forks a child for each.

That process is itself a fork of the one that runs the tests, made before the first of them: neither PyTorch nor
transformers is loaded again, which takes five seconds of a core.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LOADED = (
    "accelerate",
    "onnxruntime",
    "torch",
    "transformers",
    "sklearn.linear_model",
    "bort.__main__",
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
PATIENCE_SECONDS = 240
"""A command that takes longer is stuck: it is ended, and its log says where each of its threads was."""


def jumping(seed: int) -> Callable[[], float]:
    """A clock that someone sets, back and forth, by up to a month."""
    chance, ahead, clock = random.Random(seed), 0.0, time.time

    def now() -> float:
        nonlocal ahead
        if chance.random() < 0.3:
            ahead = chance.uniform(-30 * DAY_SECONDS, 30 * DAY_SECONDS)
        return clock() + ahead

    return now


def child(request: dict[str, Any]) -> int:
    """Run one command as the shell would."""
    os.setsid()
    os.chdir(request["folder"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True, file=2)
    os.environ.update(request.get("environment", {}))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "clock_seed" in request:
        time.time = jumping(request["clock_seed"])
    from bort.__main__ import end_well, main

    end_well()
    sys.argv = ["bort", *request["argv"]]
    if request.get("file_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    if "more_memory_bytes" in request:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + request["more_memory_bytes"],) * 2)
    try:
        exec(request.get("first", ""), {})
        status = main(request["argv"])
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def serve(requests: int, answers: int) -> None:
    """Answer requests, a JSON line each, until nobody is left who could ask."""
    faulthandler.disable()  # it would write to a file that is closed now
    for before, after in ((3, min(requests, answers)), (min(requests, answers) + 1, max(requests, answers))):
        os.closerange(before, after)
    os.closerange(max(requests, answers) + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of it would be missing in a fork
    loaded = False
    with open(requests) as asked, open(answers, "w", buffering=1) as answer:
        for line in asked:
            request = json.loads(line)
            if "wait" in request:
                found, status = os.waitpid(request["wait"], request["options"])
                print(json.dumps(os.waitstatus_to_exitcode(status) if found else None), file=answer)
                continue
            if not loaded:
                _load()
                loaded = True
            process = os.fork()
            if not process:
                status = 70
                try:
                    status = child(request)
                finally:
                    os._exit(status)
            print(process, file=answer)


def _load() -> None:
    for name in LOADED:
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # or the first collection of each child would copy all memory


class Launcher:
    """Starts commands from a process that has loaded all they need."""

    def __init__(self) -> None:
        for_requests, requests = os.pipe()
        answers, for_answers = os.pipe()
        self._process = os.fork()
        if not self._process:
            try:
                serve(for_requests, for_answers)
            finally:
                os._exit(0)
        os.close(for_requests)
        os.close(for_answers)
        self._requests, self._answers = open(requests, "w", buffering=1), open(answers)  # noqa: SIM115

    def _ask(self, **request: Any) -> Any:
        print(json.dumps(request), file=self._requests)
        return json.loads(self._answers.readline())

    def start(self, argv: list[str], folder: Path, log: Path | None = None, **more: Any) -> int:
        """Start a command, and tell its process id.

        Args:
            argv: The words after `bort`.
            folder: To run in.
            log: For what is printed; by default a file `log` beside the folder.
            **more: Perhaps `environment`, variables to add; `first`, code to run before the command; `file_bytes`, the
                largest file that the child may write; `more_memory_bytes`, how much more than now it may map;
                `clock_seed`, which chooses how its clock jumps.
        """
        return int(self._ask(argv=argv, folder=str(folder), log=str(log or folder.parent / "log"), **more))

    def wait(self, process: int) -> int:
        """Wait for the end of a process, and tell its exit status."""
        return int(self._ask(wait=process, options=0))

    def status(self, process: int) -> int | None:
        """The exit status of a process, once; None while it runs."""
        status: int | None = self._ask(wait=process, options=os.WNOHANG)
        return status

    def run(self, argv: list[str], folder: Path, **more: Any) -> int:
        return self.wait(self.start(argv, folder, **more))

    def close(self) -> None:
        self._requests.close()
        self._answers.close()
        os.waitpid(self._process, 0)
