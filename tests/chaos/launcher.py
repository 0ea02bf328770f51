"""Starts commands of `bort` in milliseconds: a process that has loaded everything forks a child for each.

    python launcher.py < requests > answers

A request is a JSON line: `argv`, `folder` to run in, `log` for what is printed, perhaps `file_bytes`, the largest file
that the child may write; its answer is the process id. Or `wait`, a process id; its answer is the exit status.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback

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
)


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
