"""Answers to a shell that asks what could come next, by argcomplete's protocol."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, get_args, get_origin

_ASKED = "_ARGCOMPLETE"


def asked() -> bool:
    """Whether the shell asks."""
    return _ASKED in os.environ


def command_asked_about(commands: Iterable[str]) -> str | None:
    """The command whose settings the shell asks for; None where it asks for the command, and has been answered."""
    words = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 0)].split()
    known = [*commands]
    if len(words) > 1 and words[1] in known and not os.environ["COMP_LINE"].endswith(f" {words[1]}"):
        os.environ[_ASKED] = "2"  # the command stands for the program's name
        return words[1]
    import argcomplete

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=known)
    argcomplete.autocomplete(parser)
    return None


def complete(parser: Any) -> None:
    """Answer for the settings of a command, and end: choices where there are any, else files."""
    from argcomplete.completers import FilesCompleter

    for action in parser._actions:
        choices = _choices(parser.hints.get(action.dest))
        action.completer = partial(_all, choices) if choices else FilesCompleter()
    parser.parse_args([])  # which answers, for jsonargparse knows the protocol


def _all(choices: list[str], **_: Any) -> list[str]:
    return choices


def _choices(hint: Any) -> list[str]:
    """The values of a literal, alone or in a union or list."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [choice for part in get_args(hint) for choice in _choices(part)]
