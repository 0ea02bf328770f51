"""Shell completion, by argcomplete's protocol."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, get_args, get_origin

_ASKED = "_ARGCOMPLETE"


def asked() -> bool:
    """Whether the shell asks for completions."""
    return _ASKED in os.environ


def command_asked_about(commands: Iterable[str]) -> str | None:
    """The command whose flags the shell completes; None if it completes the command, which is done here."""
    words = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 0)].split()
    known = [*commands]
    if len(words) > 1 and words[1] in known and not os.environ["COMP_LINE"].endswith(f" {words[1]}"):
        os.environ[_ASKED] = "2"  # the command takes the place of the program's name
        return words[1]
    import argcomplete

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=known)
    argcomplete.autocomplete(parser)
    return None


def complete(parser: Any) -> None:
    """Complete the flags of a command and exit; values are the flag's choices if it has any, otherwise files."""
    from argcomplete.completers import FilesCompleter

    for action in parser._actions:
        choices = _choices(parser.hints.get(action.dest))
        action.completer = partial(_all, choices) if choices else FilesCompleter()
    parser.parse_args([])  # answers and exits: jsonargparse supports the protocol


def _all(choices: list[str], **_: Any) -> list[str]:
    return choices


def _choices(hint: Any) -> list[str]:
    """The values of a `Literal`, also inside a union or list."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [choice for part in get_args(hint) for choice in _choices(part)]
