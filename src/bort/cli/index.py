"""`bort index`: a large pool of texts with their vectors, for nearest-neighbour search."""

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
    """file with one text per line (also .gz, .xz, .bz2, .zst), or a folder of such files"""
    out: str
    """folder to write"""
    model: str = "bort-nano"
    """encoder; an int8 model from bort export is the fastest"""
    stored: Literal["int8", "float16"] = "int8"
    """type of the stored vectors; int8 takes half the space of float16"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""
    resume: bool = False
    """continue an unfinished index"""

    def check(self) -> None:
        """Reject an object store.

        Raises:
            BortError: `out` is an address.
        """
        from bort.files import check_local

        check_local("out", self.out)


def index(arguments: IndexArguments) -> FolderResult:
    """Embed each line of text files of any size, for `bort finetune --pool` and `bort.Index`.

    Blank lines are left out, and memory does not grow with the text. To continue an interrupted run, repeat the command
    with --resume.

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
    return FolderResult({"texts": len(made), "bytes": total}, Path(arguments.out))
