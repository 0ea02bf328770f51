"""Flags and `--config` files as views of a command's dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser


def build(name: str, function: Callable[[Any], Any], arguments: type, positional: tuple[str, ...]) -> ArgumentParser:
    """The parser of one command: its docstring is the description, the fields' docstrings are the help.

    A list takes its items one after another (`--seeds 0 1 2`), a bool is a switch (`--resume`, `--no_resume`).
    """
    parser = ArgumentParser(prog=f"bort {name}", description=inspect.getdoc(function))
    parser.add_argument("--config", action="config", help="a YAML file of these settings, as each run writes one")
    hints = get_type_hints(arguments)
    texts = {item.arg_name: item.description or "" for item in docstring_parser.parse_from_object(arguments).params}
    for field in dataclasses.fields(arguments):
        keywords: dict[str, Any] = {"help": " ".join(texts.get(field.name, "").split())}
        hint = hints[field.name]
        if hint is bool:
            keywords["action"] = ActionYesNo(yes_prefix="", no_prefix="no_")
        elif get_origin(hint) is list:
            keywords |= {"type": get_args(hint)[0], "nargs": "+"}
        else:
            keywords["type"] = hint
        if field.default is not dataclasses.MISSING:
            keywords["default"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            keywords["default"] = field.default_factory()
        elif field.name not in positional:
            keywords["required"] = True
        parser.add_argument(field.name if field.name in positional else f"--{field.name}", **keywords)
    return parser


def parse(
    name: str, function: Callable[[Any], Any], arguments: type, positional: tuple[str, ...], argv: list[str]
) -> Any:
    """Read the command line into the dataclass; a mistake prints one line and exits with status 2."""
    parser = build(name, function, arguments, positional)
    fields = dataclasses.fields(arguments)
    needs = any(f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING for f in fields)
    if not argv and needs:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    values = vars(parser.parse_args(argv))
    return arguments(**{field.name: values[field.name] for field in fields})
