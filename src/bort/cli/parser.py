"""Flags and `--config` files, generated from a command's dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

from bort.bounds import bounds
from bort.cli import completion
from bort.errors import BortError, flag
from bort.files import read_yaml

ONE_OR_MORE = list[str] | str
"""The type of a setting that is one string or several (`--label a b`)."""
_MOST_LISTED = 20
_PRINT_CONFIG = "--print_config"
_BARE = {"finetune": "train", "predict": "input", "embed": "input", "suggest": "input", "evaluate": "data"}
"""The setting of each command that a first word without a flag sets."""
_WRONG_VALUE = re.compile(r'Parser key "(\w+)".*(?:Got|Given) value: (.*)', re.DOTALL)


class _Help(DefaultHelpFormatter):
    """Help in our words: without types, empty defaults, and the library's `--label+`, which appends to a list."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default = default_words(None if action.default == argparse.SUPPRESS else action.default)
        fact = "required" if action.required else default and f"default: {default}"
        return (action.help or "") + (f" ({fact})" if fact else "")

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return action.dest.upper()
        flags = ", ".join(option for option in action.option_strings if not option.endswith("+"))
        taken = self._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
        return f"{flags} {taken}".rstrip()


class _Parser(ArgumentParser):
    """One command's parser, which reports a mistake in one line."""

    hints: dict[str, Any]
    positional: tuple[str, ...]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with status 2."""
        self.exit(2, f"{self.prog}: {self._worded(message)}; see {self.prog} --help\n")

    def _worded(self, message: str) -> str:
        wrong = _WRONG_VALUE.search(message)
        if wrong and wrong[1] in self.hints:
            return f"{flag(wrong[1])}: value {wrong[2].strip()!r}: must be {_worded(self.hints[wrong[1]])}"
        if lacking := re.match("the following arguments are required: (.*)", message):
            names = lacking[1].split(", ")
            return f"needs {', '.join(n if n in self.positional else flag(n) for n in names)}"
        message = re.sub(r"(, |/)--[\w-]+\+", "", " ".join(message.split()))  # the library's flags that append to lists
        unknown = re.match(r"unrecognized arguments: --([^ =]+)", message)
        near = difflib.get_close_matches(unknown[1].replace("-", "_"), self.hints, n=1) if unknown else []
        if near and near[0] in self.positional:
            return f"{message}; give {near[0]} without a flag"
        return message + (f"; did you mean {flag(near[0])}?" if near else "")


def _worded(hint: Any) -> str:
    """A type in words, for messages."""
    items = [item for item in get_args(hint) if item is not type(None)]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, items))}"
    if items and get_origin(hint) is not list:
        return " or ".join(map(_worded, items))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(items[0] if items else hint, str(hint))


def default_words(value: Any) -> str:
    """A default in words, for help; empty if there is nothing to show.

    Args:
        value: The default.

    Example:
        >>> [default_words(value) for value in (8, [5e-4, 2e-4], True, None, [], "")]
        ['8', '0.0005 0.0002', 'on', '', '', '']
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in (None, "", []):
        return ""
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in values)


def _taken(setting: str, hint: Any) -> str | None:
    """What a flag takes, for help: N and X are a whole and any number; None leaves choices to the library."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if get_origin(hint) is Literal:
        return None
    name = "N" if kinds == [int] else "X" if kinds == [float] else setting.upper()
    return f"{name} [{name} ...]" if hint == ONE_OR_MORE else name


def _description(function: Callable[[Any], Any]) -> str:
    """A command's docstring up to its example, which is for Python users."""
    return (inspect.getdoc(function) or "").partition("\n\nExample")[0]


def _usage(name: str, positional: tuple[str, ...]) -> str:
    """A one-line usage; the flags are explained below it."""
    words = [*(word.upper() for word in positional), *([f"[{_BARE[name].upper()}]"] if name in _BARE else [])]
    return " ".join(["bort", name, *words, "[flags]"])


def build(
    name: str, function: Callable[[Any], Any], arguments: type, positional: tuple[str, ...], *, rare: bool = True
) -> _Parser:
    """The parser of one command: its docstring is the description, the fields' docstrings are the help.

    Settings are shown in the groups and order of the dataclass's `TOPICS`; those in `RARE` only if `rare`.
    A list takes several values (`--seeds 0 1 2`), a bool is a switch (`--resume`, `--no-resume`).
    """
    topics: dict[str, tuple[str, ...]] = getattr(arguments, "TOPICS", {})
    hidden: frozenset[str] = frozenset() if rare else getattr(arguments, "RARE", frozenset())
    parser = _Parser(
        prog=f"bort {name}",
        description=_description(function),
        usage=_usage(name, positional),
        allow_abbrev=False,
        formatter_class=_Help,
    )
    parser.add_argument("--config", action="config", help="YAML file of these settings; flags after it override it")
    [print_config] = [action for action in parser._actions if _PRINT_CONFIG in action.option_strings]
    print_config.metavar, print_config.help = "", "print the settings of this command line as YAML and exit"
    if hidden:
        parser.epilog = f"bort {name} --help-all explains {len(hidden)} more flags, which are rarely needed."
    hinted = get_type_hints(arguments)
    hints = parser.hints = {field.name: hinted[field.name] for field in dataclasses.fields(arguments)}
    bounded = get_type_hints(arguments, include_extras=True)
    parser.positional = positional
    texts = {item.arg_name: item.description or "" for item in docstring_parser.parse_from_object(arguments).params}
    groups: dict[str, Any] = {}
    for topic, settings in topics.items():
        groups |= dict.fromkeys(settings, parser.add_argument_group(topic))
    order = [*groups, *(setting for setting in hints if setting not in groups)]
    for field in sorted(dataclasses.fields(arguments), key=lambda field: order.index(field.name)):
        limits = bounds(bounded[field.name])
        keywords: dict[str, Any] = {
            "help": " ".join(texts.get(field.name, "").split()) + (f" ({limits})" if limits else "")
        }
        hint = hints[field.name]
        if hint is bool:
            keywords["action"] = ActionYesNo(yes_prefix="", no_prefix="no-")
        elif get_origin(hint) is list:
            keywords |= {"type": get_args(hint)[0], "nargs": "+"}
        else:
            # In a union jsonargparse reads text as YAML, where ~ and what starts with # are null.
            keywords["type"] = str if hint == (str | None) else hint
        if field.default is not dataclasses.MISSING:
            keywords["default"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            keywords["default"] = field.default_factory()
        elif field.name not in positional:
            keywords["required"] = True
        if field.name not in positional and hint is not bool and (taken := _taken(field.name, hint)):
            keywords["metavar"] = taken
        if field.name in hidden:
            keywords["help"] = argparse.SUPPRESS
        groups.get(field.name, parser).add_argument(
            field.name if field.name in positional else flag(field.name), **keywords
        )
    return parser


def parse(
    name: str, function: Callable[[Any], Any], arguments: type, positional: tuple[str, ...], argv: list[str]
) -> Any:
    """Parse the command line into the dataclass; a mistake prints one line and exits with status 2.

    Raises:
        BortError: A `--config` file cannot be read, or does not map names of settings to values; or the first word is
            the value of a setting whose flag is there, too.
    """
    if "--help-all" in argv:
        build(name, function, arguments, positional).print_help()
        raise SystemExit(0)
    if completion.asked():
        completion.complete(build(name, function, arguments, positional))
    # Suppressed help would also hide the setting from --print_config.
    parser = build(name, function, arguments, positional, rare=bool(argv) and not {"-h", "--help"} & set(argv))
    fields = dataclasses.fields(arguments)
    needed = [f for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    if not argv and (needed or any("needed" in field.metadata for field in fields)):
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    for before, value in zip(["", *argv], argv, strict=False):
        if before == "--config" or value.startswith("--config="):
            _check_config(value.removeprefix("--config="), parser.hints)
    words = [hyphened(word) for word in _spelled_out(argv, _BARE.get(name))]
    several = {flag(setting) for setting, hint in parser.hints.items() if hint == ONE_OR_MORE}
    values = vars(parser.parse_args(_gathered(words, several)))
    return arguments(**{field.name: values[field.name] for field in fields})


def _spelled_out(argv: list[str], bare: str | None) -> list[str]:
    """Add the flag that first words without one stand for, and a default --out.

    `bort finetune data.csv` is `bort finetune --out runs/data --train data.csv`.

    Raises:
        BortError: The flag is there, too.
    """
    if bare is None or not argv or argv[0].startswith("-"):
        return argv
    files = [*takewhile(lambda word: not word.startswith("-"), argv)]
    if any(word.partition("=")[0].removesuffix("+") == flag(bare) for word in argv):
        raise BortError("must be given once: with or without the flag", setting=bare, value=" ".join(files))
    out = ["--out", f"runs/{Path(files[0]).name.partition('.')[0]}"] if bare == "train" else []
    # What comes later wins, also over what a --config file says.
    return [*out, *argv[len(files) :], flag(bare), *files]


def _gathered(words: list[str], flags: set[str]) -> list[str]:
    """Join several values after one of `flags` into one word, a JSON list."""
    made: list[str] = []
    several: list[str] = []
    for word in [*words, "--"]:
        if several and word.startswith("--"):
            name, *values = several
            made += [name, json.dumps(values)] if len(values) > 1 else several
            several = []
        if word in flags or several:
            several.append(word)
        else:
            made.append(word)
    return made[:-1]


def hyphened(word: str) -> str:
    """A flag with hyphens, as the parsers know it; underscores are accepted as well."""
    name, equals, value = word.partition("=")
    if not name.startswith("--"):
        return word
    name = name.replace("_", "-")
    return (_PRINT_CONFIG if name == _PRINT_CONFIG.replace("_", "-") else name) + equals + value


def _check_config(path: str, hints: dict[str, Any]) -> None:
    """Reject what jsonargparse would report without the file and the line."""
    import yaml

    settings = read_yaml(path, yaml.safe_load)
    if not isinstance(settings, dict):
        raise BortError("must map names of settings to values", file=path, value=settings)
    for key, value in settings.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            known = ", ".join([*hints][:_MOST_LISTED]) + (", …" if len(hints) > _MOST_LISTED else "")
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {known}"
            raise BortError(f"is no setting of this command{hint}", file=path, column=str(key))
        if get_origin(hints[key]) is list and not isinstance(value, list):
            raise BortError("must be a list, such as [0, 1]", file=path, column=str(key), value=value)
        if hints[key] is bool and not isinstance(value, bool):
            raise BortError("must be true or false", file=path, column=str(key), value=value)
