"""Reads tables for inspection: an invalid row is recorded, and reading continues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bort.data.tables.checks import LookAlikes, look_alike_labels
from bort.data.tables.examples import Columns, Example, stream_rows, whole_table
from bort.data.tables.labels import Kind, infer_kind
from bort.data.tables.readers import format_of
from bort.errors import BortError
from bort.progress import bar
from bort.tasks.kinds import KINDS


@dataclass(frozen=True)
class ReadPart:
    """Contents of a file.

    Attributes:
        examples: Its valid rows.
        labelled: Whether they have labels.
        refused: What is wrong with each invalid row, as a training command would print it.
        spellings: Labels written in several ways but read as one: with surrounding blanks, or as `1` and `1.0`.
        columns: Names of the columns.
    """

    examples: list[Example]
    labelled: bool
    refused: tuple[str, ...] = ()
    spellings: tuple[LookAlikes, ...] = ()
    columns: tuple[str, ...] = field(default=())


def read_part(source: str, columns: Columns, kind: Literal["auto"] | Kind = "auto") -> ReadPart:
    """Read a file with or without labels.

    Args:
        source: A table, plain text with one text per line, or a data set on the hub.
        columns: Names of the columns. If the default column `label` is missing, in JSON lines from every row, the texts
            have no labels.
        kind: Kind of the labels; rows with other labels are invalid.

    Raises:
        BortError: The file cannot be read, it has no rows, or a column that was named is missing.
    """
    first, form, label = None, format_of(source), columns.labels[0]
    labelled = False
    if form != "txt":
        rows = (row for row, _ in stream_rows(source, columns, on_bad=lambda *_: None))
        first = next(rows, None)
        labelled = first is not None and (label in first or label != Columns.label)
        # Each row of JSON lines names its own cells, so that the first may lack a label by mistake.
        labelled = labelled or (form == "jsonl" and any(label in row for row in rows))
    refused: list[str] = []
    written: dict[str, list[Example]] = defaultdict(list)
    examples = []

    def on_bad(error: BortError, row: dict[str, Any]) -> None:
        refused.append(str(error))

    with bar(f"reading {source}") as shown:
        for row, example in stream_rows(source, columns, labelled=labelled, on_bad=on_bad):
            if labelled and kind != "auto":
                try:
                    names = example.label if isinstance(example.label, tuple) else (str(example.label),)
                    KINDS[kind](names, "").targets([example])
                except BortError as error:
                    on_bad(error, row)
                    continue
            if labelled and not isinstance(example.label, tuple):
                read_as = example.label if isinstance(example.label, str) else str(example.label).removesuffix(".0")
                written[read_as].append(Example("", label=str(row[label])))
            examples.append(example)
            shown.update(len(examples), f"{len(examples):,} rows")
    if not examples and refused:
        raise BortError(f"has no row that can be read; the first: {refused[0]}", file=source)
    examples = whole_table(examples, source, columns, labelled)
    amounts = labelled and (infer_kind(examples) if kind == "auto" else kind) == "regression"
    spellings = [] if amounts else [alike for labels in written.values() for alike in look_alike_labels(labels)]
    return ReadPart(examples, labelled, tuple(refused), tuple(spellings), tuple(first or ()))


def part_names(files: Sequence[str]) -> list[str]:
    """A name for each file: its own name without extensions if all of them differ, else its path.

    Example:
        >>> part_names(["data/train.csv", "data/dev.csv.gz"]), part_names(["a/train.csv", "b/train.csv"])
        (['train', 'dev'], ['a/train.csv', 'b/train.csv'])
    """
    stems = [Path(file).name.partition(".")[0] or file for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)
