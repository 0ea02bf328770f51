"""Figures for README and docs, as paragraphs and tables made of the results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Results = Mapping[str, Any]
BLOCKS: dict[str, Callable[[Results], str]] = {}


def named_in(text: str) -> list[str]:
    """The blocks that a document asks for, in their order."""
    return re.findall(r"<!-- BEGIN figures ([\w-]+) -->", text)


def made(name: str, results: Results) -> str:
    """A block's Markdown.

    Raises:
        KeyError: There is no such block.
    """
    return BLOCKS[name](results)
