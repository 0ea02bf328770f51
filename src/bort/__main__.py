"""The table of commands. Each is one typed function in `bort.cli` that takes one dataclass of arguments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

from bort.errors import BortError

COMMANDS: dict[str, str] = {
    "demo": "the whole road on the embedded model and data, offline, in minutes",
    "finetune": "fit a classifier or regressor on labelled data",
    "evaluate": "score a model on a labelled file",
    "predict": "label a file or standard input",
    "pretrain": "pre-train or distil an architecture on text",
    "tokenizer": "train a byte-level BPE vocabulary on text",
    "convert": "read the original .params checkpoint, or a Hugging Face BERT one",
    "info": "print a model's shape and counted size",
}

_EPILOG = """
Begin with `bort demo`, then try your own file:
  bort finetune --train train.csv --dev dev.csv --model bort-nano --out runs/mine
  bort predict --model runs/mine --input new.csv --output labels.csv

`bort COMMAND --help` explains a command. Exit status: 0 done, 2 bad input, 1 a failure of ours, 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command of the line `argv` and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from bort import __version__

        print(f"bort {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"bort: {argv[0]!r} is not a command; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return _run(argv[0], argv[1:])
    except BortError as error:
        print(f"bort {argv[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"bort {argv[0]}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); point the stream elsewhere so that closing it is quiet.
        sys.stdout = None
        return 0


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


def _run(name: str, argv: list[str]) -> int:
    from bort.cli.parser import parse

    function, arguments, positional = command(name)
    function(parse(name, function, arguments, positional, argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
