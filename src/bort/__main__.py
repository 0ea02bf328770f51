"""The table of commands. Each is one typed function in `bort.cli` that takes one dataclass of arguments."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, get_type_hints

from bort.errors import BortError, lines_of, out_of_memory

COMMANDS: dict[str, str] = {
    "demo": "the whole road on the embedded model and data, offline, in minutes",
    "check": "what is odd in labelled texts: duplicates, leaks, conflicts, probable label errors",
    "finetune": "fit a classifier or regressor on labelled data",
    "evaluate": "score a model on a labelled file, or on a task of GLUE, SuperGLUE or RACE",
    "submit": "answer the test data of a benchmark's tasks, as its leaderboard takes them",
    "predict": "label a file or standard input",
    "suggest": "choose the texts to label next",
    "embed": "one vector a text, for a file or standard input",
    "index": "a large pool of texts with their vectors, to be searched",
    "export": "write a model that answers fast on a CPU, in fp32 or int8",
    "serve": "answer over HTTP, with a page to try the model on",
    "benchmark": "speed of models on this machine, side by side, in all engines",
    "extract": "search for an architecture: small, fast and right at once",
    "pretrain": "pre-train or distil an architecture on text",
    "tokenizer": "train a byte-level BPE vocabulary on text",
    "shrink": "make a smaller encoder that inherits its weights from a trained one",
    "convert": "read the original .params checkpoint, or a Hugging Face BERT one",
    "info": "print a model's shape and counted size",
}

_EPILOG = """
Begin with `bort demo`, then try your own file:
  bort finetune --train train.csv --dev dev.csv --model bort-nano --out runs/mine
  bort predict --model runs/mine --input new.csv --output labels.csv

`bort COMMAND --help` explains a command. Exit status: 0 done, 2 bad input, 1 a failure of ours, 130 interrupted,
143 terminated.
"""


_COURTESY_SECONDS = 10.0


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come: what is under way is left as by Ctrl-C."""


def end_well() -> None:
    """Let SIGTERM end this process as Ctrl-C does, in one line; those that it forks die at once."""
    owner = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() == owner:
            raise _Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, end)


def main(argv: list[str] | None = None) -> int:
    """Run one command of the line `argv` and return the exit status."""
    if argv is None and sys.getfilesystemencoding() != "utf-8":
        # In the locale C names of files that are not ASCII cannot be written down; begin again where they can.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", "bort", *sys.argv[1:]])
    if argv is None:
        end_well()
        argv = sys.argv[1:]
    name = f"bort {argv[0]}" if argv and argv[0] in COMMANDS else "bort"
    try:
        _keep_printable()
        status = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is told here, not in the interpreter's last moments
        return status
    except BortError as error:
        return _fail(f"{name}: {error}", 2)
    except _Terminated:
        return _fail(f"{name}: terminated", 143)
    except KeyboardInterrupt:
        return _fail(f"{name}: interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`), and wants no more of it.
        _discard_output()
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        # A full disk, a missing right, a name too long: a person can mend them.
        place = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{name}: {place}{error.strerror}", 2)
    except Exception as error:
        if not (told := _short_of(error)):
            raise
        return _fail(f"{name}: {told}", 2)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else _fail(f"{name}: {done.code}", 1)


def _short_of(error: Exception) -> str:
    """What the system refused, memory or a place to write, where a library says so in an exception of its own."""
    if out_of_memory(error):
        return lines_of(error)[0]
    if found := re.search(r"(?:^|I/O error: )([^:]+) \(os error \d+\)$", str(error)):  # safetensors, tokenizers
        return found[1]
    return "a checkpoint cannot be written" if "PytorchStreamWriter failed writing" in str(error) else ""


def _fail(message: str, status: int) -> int:
    if sys.stderr is not None:
        print(message, file=sys.stderr)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _discard_output()
    return status


def _discard_output() -> None:
    """Point standard output nowhere, so that closing it is quiet."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        sys.stdout = None


def _keep_printable() -> None:
    """Let a terminal that lacks a character show another in its place."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")


def usage() -> str:
    """The help of `bort` itself; it loads nothing heavy."""
    rows = "\n".join(f"  {name:<10} {about}" for name, about in COMMANDS.items())
    about = "Small, fast text classifiers from few labels."
    return f"usage: bort COMMAND [arguments]\n\n{about}\n\n{rows}\n{_EPILOG}".rstrip()


def command(name: str) -> tuple[Callable[[Any], Any], type, tuple[str, ...]]:
    """The function of a command, the dataclass it takes, and which fields are positional."""
    module = importlib.import_module(f"bort.cli.{name}")
    function = getattr(module, name)
    arguments = get_type_hints(function)["arguments"]
    return function, arguments, getattr(module, "POSITIONAL", ())


def _run(argv: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        from bort.cli.completion import command_asked_about

        argv = [command_asked_about(COMMANDS) or "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from bort import __version__

        print(f"bort {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"
        raise BortError(f"is not a command; {hint}", value=name)
    from bort.bounds import validate
    from bort.cli.inputs import check_inputs
    from bort.cli.parser import parse

    function, arguments, positional = command(name)
    settings = parse(name, function, arguments, positional, argv[1:])
    try:
        # Before the command loads what it needs, which takes seconds.
        validate(settings)
        check_inputs(name, settings)
    except BortError:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(_COURTESY_SECONDS)  # the first of several processes tells it, and the launcher ends the others
        raise
    from bort.progress import verbose

    with verbose():
        function(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
