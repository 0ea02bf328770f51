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

from bort.errors import BortError, lines_of, out_of_memory, packages_installed

COMMANDS: dict[str, str] = {
    "demo": "try the whole workflow on the embedded model and data, offline, in minutes",
    "check": "find duplicates, leaks, conflicts and probable label errors in labelled texts",
    "finetune": "fit a classifier or regressor on labelled data",
    "evaluate": "score a model on a labelled file, or on a task of GLUE, SuperGLUE or RACE",
    "submit": "write answers to a benchmark's test data in its leaderboard's format",
    "predict": "label a file or standard input",
    "suggest": "choose the texts to label next",
    "embed": "compute one vector per text of a file or standard input",
    "index": "embed a large pool of texts for nearest-neighbour search",
    "export": "export a model for fast inference on a CPU, in fp32 or int8",
    "serve": "serve models over HTTP, with a page to try them",
    "benchmark": "compare the speed of models on this machine, in all engines",
    "extract": "search for a small, fast and accurate architecture",
    "pretrain": "pre-train or distil an architecture on text",
    "tokenizer": "train a byte-level BPE vocabulary on text",
    "shrink": "make a smaller encoder that inherits the weights of a trained one",
    "convert": "convert the original .params checkpoint, or a Hugging Face BERT one, to a Hugging Face folder",
    "info": "print a model's shape and parameter counts",
}

_EPILOG = """
Start with `bort demo`, then try your own file:
  bort finetune --train train.csv --dev dev.csv --model bort-nano --out runs/mine
  bort predict --model runs/mine --input new.csv --output labels.csv

`bort COMMAND --help` explains a command. Exit status: 0 done, 2 bad input, 1 internal error, 130 interrupted,
143 terminated.
"""


_COURTESY_SECONDS = 10.0


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received; it is handled like Ctrl-C."""


def end_well() -> None:
    """Make SIGTERM end this process like Ctrl-C, with a one-line message; forked processes die immediately."""
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
    """Run the command in `argv` and return the exit status."""
    if argv is None and sys.getfilesystemencoding() != "utf-8":
        # The C locale cannot encode file names that are not ASCII; restart in UTF-8 mode.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", "bort", *sys.argv[1:]])
    if argv is None:
        end_well()
        argv = sys.argv[1:]
    name = f"bort {argv[0]}" if argv and argv[0] in COMMANDS else "bort"
    try:
        _keep_printable()
        with packages_installed():
            status = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # report write errors here, not while the interpreter shuts down
        return status
    except BortError as error:
        return _fail(f"{name}: {error}", 2)
    except _Terminated:
        return _fail(f"{name}: terminated", 143)
    except KeyboardInterrupt:
        return _fail(f"{name}: interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has exited (`| head`).
        _discard_output()
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        # The user can fix these: full disk, missing permission, name too long.
        place = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{name}: {place}{error.strerror}", 2)
    except Exception as error:
        if not (told := _short_of(error)):
            raise
        return _fail(f"{name}: {told}", 2)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else _fail(f"{name}: {done.code}", 1)


def _short_of(error: Exception) -> str:
    """A short message if a library's own exception reports a lack of memory or a failed write, else an empty string."""
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
    """Redirect standard output to the null device, so that closing it raises nothing."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        sys.stdout = None


def _keep_printable() -> None:
    """Replace characters that the terminal cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")


def usage() -> str:
    """The help of `bort` itself; loads no heavy libraries."""
    rows = "\n".join(f"  {name:<10} {about}" for name, about in COMMANDS.items())
    about = "Small, fast text classifiers from few labels."
    return f"usage: bort COMMAND [flags]\n\n{about}\n\n{rows}\n{_EPILOG}".rstrip()


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
        # Before the command loads its libraries, which takes seconds.
        validate(settings)
        check_inputs(name, settings)
    except BortError:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(_COURTESY_SECONDS)  # rank 0 reports it, and the launcher ends the others
        raise
    from bort.progress import verbose

    with verbose():
        function(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
