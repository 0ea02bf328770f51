"""`bort index`: a large pool of texts with their vectors, to be searched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bort.bounds import PositiveInt, validate
from bort.cli.results import FolderResult

POSITIONAL = ("texts",)


@dataclass
class IndexArguments:
    """Arguments of `bort index`.

    Example:
        >>> IndexArguments("texts.txt", "pool").stored
        'int8'
    """

    texts: str
    """file of one text a line (also .gz, .xz, .bz2, .zst), or a folder of such"""
    out: str
    """folder to write"""
    model: str = "bort-nano"
    """encoder; one of bort export in int8 is the fastest"""
    stored: Literal["int8", "float16"] = "int8"
    """type of the stored numbers; int8 takes half the space of float16"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""
    resume: bool = False
    """go on with an unfinished index"""


def index(arguments: IndexArguments) -> FolderResult:
    """Embed each line of a text of any size, for `bort finetune --pool` and for `bort.Index`.

    What is killed goes on with --resume. Blank lines are left out; memory does not grow with the text.

    Example:
        >>> import bort
        >>> bort.index(bort.IndexArguments("texts.txt", "pool")).metrics["texts"]
        200
    """
    validate(arguments)

    from bort.predict.indexing import build_index
    from bort.progress import out

    made = build_index(
        arguments.texts,
        arguments.out,
        arguments.model,
        stored=arguments.stored,
        threads=arguments.threads,
        resume=arguments.resume,
    )
    total = sum(file["bytes"] for file in made.description.files.values())
    out().print(f"{arguments.out}: {len(made):,} texts, {total / 1e6:,.1f} MB", soft_wrap=True)
    return FolderResult({"texts": len(made), "bytes": total}, Path(arguments.out).expanduser())
