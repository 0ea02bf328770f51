"""Reads tables for inspection: an invalid row is recorded, and reading continues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bort.data.tables.checks import LookAlikes, look_alike_labels
from bort.data.tables.examples import Columns, Example, stream_rows, whole_table
from bort.data.tables.labels import Kind, check_decimals, infer_kind, misfits, named_labels
from bort.data.tables.readers import format_of
from bort.errors import BortError
from bort.progress import bar
from bort.tasks.kinds import KINDS, task_of

_AT_ONCE = 1000
"""Rows whose labels are checked together, and only one by one if that fails."""


@dataclass(frozen=True)
class ReadPart:
    """Contents of a file.

    Attributes:
        examples: Its valid rows.
        labelled: Whether they have labels.
        refused: What is wrong with each invalid row, as a training command would print it.
        unusable: What is wrong with the rows as a whole, such as a single class; empty if nothing is.
        spellings: Labels written in several ways but read as one: with surrounding blanks, or as `1` and `1.0`.
        columns: Names of the columns.
        kind: Kind of the labels; None without labels.
    """

    examples: list[Example]
    labelled: bool
    refused: tuple[str, ...] = ()
    unusable: str = ""
    spellings: tuple[LookAlikes, ...] = ()
    columns: tuple[str, ...] = field(default=())
    kind: Kind | None = None


def read_parts(files: Sequence[str], columns: Columns, kind: Literal["auto"] | Kind = "auto") -> dict[str, ReadPart]:
    """Read the files of one dataset, the training data first, and check their labels as training does.

    The first labelled file determines the labels, and their kind unless it is given. In the others, rows with a label
    that it lacks are recorded as invalid, but kept.

    Args:
        files: As in `read_part`.
        columns: Names of the columns.
        kind: Kind of the labels.

    Returns:
        The files by the names that `part_names` gives them.

    Raises:
        BortError: As in `read_part`.
    """
    read: dict[str, ReadPart] = {}
    decided = kind
    for name, file in zip(part_names(files), files, strict=True):
        read[name] = read_part(file, columns, decided)
        decided = read[name].kind or decided
    labelled = [name for name, part in read.items() if part.labelled]
    if not labelled:
        return read
    train, names = read[labelled[0]], columns.labels if len(columns.labels) > 1 else ()
    try:
        if kind == "auto":
            check_decimals(train.examples, columns.labels[0])
        task = task_of(train.examples, kind=decided, names=names)
    except BortError as error:
        return {**read, labelled[0]: replace(train, unusable=str(error))}
    for name in labelled[1:] if task.names else ():
        unknown: list[BortError] = []
        _sorted_out(named_labels(read[name].examples, task.names), task.targets, unknown)
        read[name] = replace(read[name], refused=(*read[name].refused, *map(str, unknown)))
    return read


def read_part(source: str, columns: Columns, kind: Literal["auto"] | Kind = "auto") -> ReadPart:
    """Read a file with or without labels.

    Args:
        source: A table, plain text with one text per line, or a data set on the hub.
        columns: Names of the columns. If the default column `label` is missing, in JSON lines from every row, the texts
            have no labels.
        kind: Kind of the labels; rows with other labels are invalid.

    Raises:
        BortError: The file cannot be read, it has no valid rows, or a column that was named is missing.
    """
    first, form, label = None, format_of(source), columns.labels[0]
    labelled = False
    if form != "txt":
        rows = (row for row, _ in stream_rows(source, columns, on_bad=lambda *_: None))
        first = next(rows, None)
        labelled = first is not None and (label in first or label != Columns.label)
        # Each row of JSON lines names its own cells, so that the first may lack a label by mistake.
        labelled = labelled or (form == "jsonl" and any(label in row for row in rows))
    refused: list[BortError] = []
    written: dict[int | None, str] = {}
    examples = []
    with bar(f"reading {source}") as shown:
        read = stream_rows(source, columns, labelled=labelled, on_bad=lambda error, _: refused.append(error))
        for row, example in read:
            if labelled and not isinstance(example.label, tuple):
                written[example.line] = str(row[label])
            examples.append(example)
            shown.update(len(examples), f"{len(examples):,} rows")
    decided: Kind | None = None
    if labelled and kind != "auto":
        examples, decided = _sorted_out(examples, _of_kind(kind), refused), kind
    if labelled and examples:
        odd = dict(misfits(examples, label))
        refused += odd.values()
        examples = [example for place, example in enumerate(examples) if place not in odd]
        if decided is None:
            decided = infer_kind(examples)
            examples = _sorted_out(examples, _of_kind(decided), refused)
    refused.sort(key=lambda error: error.line or 0)
    if not examples and refused:
        raise BortError(f"has no row that can be read; the first: {refused[0]}", file=source)
    examples = whole_table(examples, source, columns, labelled)
    spellings = _spellings(examples, written) if labelled and decided != "regression" else ()
    return ReadPart(
        examples, labelled, tuple(map(str, refused)), spellings=spellings, columns=tuple(first or ()), kind=decided
    )


def _of_kind(kind: Kind) -> Callable[[list[Example]], object]:
    """Raises an error at the first label of another kind."""

    def check(examples: list[Example]) -> None:
        labels = [one.label if isinstance(one.label, tuple) else (str(one.label),) for one in examples]
        KINDS[kind](tuple({name for several in labels for name in several}), "").targets(examples)

    return check


def _sorted_out(
    examples: Sequence[Example], check: Callable[[list[Example]], object], refused: list[BortError]
) -> list[Example]:
    """Return the examples that pass a check, and record the errors of the others.

    Args:
        examples: The examples.
        check: Raises an error if one of several examples does not pass.
        refused: Receives the errors.
    """
    kept: list[Example] = []
    for start in range(0, len(examples), _AT_ONCE):
        some = [*examples[start : start + _AT_ONCE]]
        try:
            check(some)
            kept += some
        except BortError as error:
            if len(some) == 1:
                refused.append(error)
            else:
                for example in some:
                    kept += _sorted_out([example], check, refused)
    return kept


def _spellings(examples: Sequence[Example], written: dict[int | None, str]) -> tuple[LookAlikes, ...]:
    """Labels written in several ways but read as one.

    Args:
        examples: Examples of a file.
        written: The label of each line as the file has it, except lists.
    """
    ways: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if not isinstance(example.label, tuple):
            read_as = example.label if isinstance(example.label, str) else str(example.label).removesuffix(".0")
            ways[read_as].append(Example("", label=written[example.line]))
    return tuple(alike for labels in ways.values() for alike in look_alike_labels(labels))


def part_names(files: Sequence[str]) -> list[str]:
    """A name for each file: its own name without extensions if all of them differ, else its path.

    Example:
        >>> part_names(["data/train.csv", "data/dev.csv.gz"]), part_names(["a/train.csv", "b/train.csv"])
        (['train', 'dev'], ['a/train.csv', 'b/train.csv'])
    """
    stems = [Path(file).name.partition(".")[0] or file for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)
