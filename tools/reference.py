"""Make docs/commands.md, the reference of all commands, from the dataclasses that they take.

    python -m tools.reference

The text of a flag is the docstring of its field, which `bort COMMAND --help` shows as well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from bort.__main__ import COMMANDS, command
from bort.cli.parser import build, default_words
from bort.files import write_aside

FILE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = """<!-- Made by `python -m tools.reference` from the dataclasses of the commands. Do not edit. -->

# Commands

`bort COMMAND --help` prints the same texts, without the flags that are rarely needed; `--help-all` prints them all,
and `--print_config` the settings of a command line as YAML. `--no-NAME` turns the switch `--NAME` off. The first
words after `finetune`, `predict`, `embed`, `suggest` and `evaluate` may be the input: `bort finetune mine.csv` means
`--train mine.csv --out runs/mine`.

Each command is also a function: `bort.finetune(bort.FinetuneArguments(...))`. A YAML file for `--config` sets flags by
name, with underscores; flags after it on the command line override it. Each training run writes such a file. Exit
status: 0 done, 2 bad input, 1 internal error, 130 interrupted, 143 terminated.

To complete commands, flags, choices and files with Tab, put `eval "$(register-python-argcomplete bort)"` in
`~/.bashrc`. In `~/.zshrc`, put `autoload -U bashcompinit && bashcompinit` before it. In fish, use
`register-python-argcomplete --shell fish bort | source`.
"""


def page() -> str:
    """All commands."""
    listed = [f"| [`bort {name}`](#bort-{name}) | {about} |" for name, about in COMMANDS.items()]
    parts = [HEAD, "\n".join(["| command | what it does |", "|---|---|", *listed])]
    for name in COMMANDS:
        parts += section(name)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def section(name: str) -> Iterator[str]:
    """Heading, description, and one table for each group of flags."""
    function, arguments, positional = command(name)
    parser: Any = build(name, function, arguments, positional)
    yield f"## bort {name}"
    yield _paragraphs(parser.description or "")
    if positional:
        yield f"`bort {name} {' '.join(word.upper() for word in positional)} [flags]`"
    by_name = {field.name: field for field in dataclasses.fields(arguments)}
    hints = get_type_hints(arguments)
    for group in parser._action_groups:
        rows = [
            _row(action, by_name[action.dest], hints[action.dest])
            for action in group._group_actions
            if action.dest in by_name
        ]
        if rows:
            title = "" if group.title in (None, "options", "positional arguments") else f"**{group.title}**\n\n"
            yield title + "\n".join(["| flag | default | |", "|---|---|---|", *rows])


def _row(action: Any, field: dataclasses.Field[Any], hint: Any) -> str:
    """One line of a table."""
    flags = [word for word in action.option_strings if word.startswith("--")]
    shown = f"`{flags[0]}`" if flags else f"`{field.name.upper()}`"
    choices = ", ".join(f"`{choice}`" for choice in _choices(hint))
    return f"| {shown} | {_default(field)} | {_cell(action.help or '')}{choices and f' ({choices})'} |"


def _choices(hint: Any) -> tuple[Any, ...]:
    """What a setting may be, if that is a list."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return "required"
    words = default_words(value)
    return words if isinstance(value, bool) or not words else f"`{words}`"


def _cell(text: str) -> str:
    """Help as Markdown: one line, and nothing in it that a table or HTML would take for its own."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("%%", "%")


def _paragraphs(text: str) -> str:
    """A docstring without its sections for Python readers."""
    return re.split(r"\n\s*\n(?=Args:|Returns:|Raises:)", text)[0].strip()


def main() -> None:
    """Write the page."""
    with write_aside(FILE) as file:
        file.write(page())


if __name__ == "__main__":
    main()
