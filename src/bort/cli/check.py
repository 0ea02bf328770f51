"""`bort check`: what is in the data, and what may be wrong with it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.parser import ONE_OR_MORE
from bort.cli.results import FiguresResult
from bort.errors import BortError

if TYPE_CHECKING:
    from bort.inspection.examine import Examined
    from bort.inspection.reading import ReadPart

POSITIONAL = ("files",)
_SHOWN_LABELS, _SHOWN_REFUSED = 30, 5


@dataclass
class CheckArguments:
    """Arguments of `bort check`.

    Example:
        >>> CheckArguments(["train.csv", "dev.csv"], quick=True).model
        'bort-nano'
    """

    files: list[str]
    """labelled or unlabelled files (.csv, .tsv, .jsonl, .parquet, .txt), or hub data sets (owner/name:split); training
    data first"""
    model: str = "bort-nano"
    """encoder that finds near-duplicates and probable label errors: bort-nano, a folder, or a hub name"""
    quick: bool = False
    """skip what needs the encoder: lengths in tokens, near-duplicates, probable label errors"""
    kind: Literal["auto", "classification", "regression", "multilabel"] = "auto"
    """kind of the labels; auto: multilabel if labels are lists; regression if every label is a number and at least one
    is not whole; else classification"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    label: ONE_OR_MORE = "label"
    """column with the label or the list of labels; several names are 0/1 columns, one per label; a file without a
    column `label` counts as unlabelled"""
    label_separator: str | None = None
    """separator of several labels in the label column, such as ; in a;b; an empty cell means no labels"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    max_length: PositiveInt = 128
    """length in tokens at which a model will truncate texts; text lengths are compared with it"""
    most: PositiveInt = 10_000
    """maximum number of texts that the encoder reads, sampled at random from larger data"""
    show: PositiveInt = 20
    """number of probable label errors in the table; --json and --report have all of them"""
    json: bool = False
    """print one JSON object and nothing else on standard output"""
    report: str | None = None
    """HTML page (.html) to write, with all findings"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""

    def check(self) -> None:
        """Raise an error if there are no files, one is given twice, or the report is not named as a page.

        Raises:
            BortError: The first problem.
        """
        if not self.files:
            raise BortError("needs a file", setting="files")
        known = set[str]()
        for file in self.files:
            if (path := os.path.realpath(file)) in known:
                raise BortError("is given twice", file=file)
            known.add(path)
        # The page replaces what has its name, and `--report train.csv dev.csv` names training data.
        if self.report is not None and not self.report.lower().endswith((".html", ".htm")):
            raise BortError("must end in .html", setting="report", value=self.report)


def check(arguments: CheckArguments) -> FiguresResult:
    """Inspect labelled texts before training on them.

    Reports rows, labels and lengths; duplicates within and across files: exact, folded (case, spacing, Unicode form)
    and near; equal texts with different labels; labels that look alike; empty and long texts; languages other than
    English, if the model is bort-nano or with --quick; and probable label errors: a linear head on the encoder's
    vectors, fitted to other texts, is confident of another label. Files are not changed, and findings do not affect
    the exit status.

    Example:

        >>> import tempfile
        >>> import bort
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open(f"{folder}/mine.csv", "w") as file:
        ...         _ = file.write("text,label\\nThe zip broke.,damage\\nthe zip broke.,delivery\\n")
        ...     found = bort.check(bort.CheckArguments([f"{folder}/mine.csv"], quick=True))
        >>> found.metrics["data"]["conflicting_texts"]
        1
    """
    from bort.data.tables.examples import Columns
    from bort.files import check_apart
    from bort.inspection.reading import read_parts

    validate(arguments)
    check_apart([("report", arguments.report)], arguments.files)
    columns = Columns(arguments.text, arguments.text_b, arguments.label, arguments.delimiter, arguments.label_separator)
    read = read_parts(arguments.files, columns, arguments.kind)
    told = []
    for name, part in read.items():
        if part.unusable:
            told.append(f"{name} cannot be trained on: {part.unusable}")
        if part.refused:
            rows = f"{len(part.refused)} row{'s' if len(part.refused) > 1 else ''} of {name} cannot be trained on"
            told.append(f"{rows}, such as {part.refused[0]}")
        told += [_spelled(name, alike) for alike in part.spellings]
    from bort.inspection.examine import examine

    examined = examine(
        {name: part.examples for name, part in read.items()},
        None if arguments.quick else arguments.model,
        kind=next((part.kind for part in read.values() if part.kind), arguments.kind),
        max_length=arguments.max_length,
        most=arguments.most,
        threads=arguments.threads,
    )
    metrics = _metrics(examined, told, read)
    if arguments.report is not None:
        from bort.inspection.page import check_report
        from bort.runs import environment

        page = check_report(metrics)
        page.made_with(environment())
        page.write(arguments.report)
    if arguments.json:
        print(json.dumps(metrics, ensure_ascii=False))
    else:
        unlabelled = {name: part.columns for name, part in read.items() if not part.labelled}
        _print(arguments, metrics, unlabelled)
    return FiguresResult(metrics)


def _metrics(examined: Examined, told: list[str], read: dict[str, ReadPart]) -> dict[str, Any]:
    """All results as JSON types."""
    inspection = dataclasses.asdict(examined.inspection)
    found: dict[str, Any] = {
        "data": inspection.pop("check"),
        **inspection,
        "lengths": {name: dataclasses.asdict(lengths) for name, lengths in examined.lengths.items()},
        "labels": examined.labels,
        "refused": {name: part.refused for name, part in read.items() if part.refused},
        "unusable": {name: part.unusable for name, part in read.items() if part.unusable},
        "findings": [*examined.inspection.sentences(), *told],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _spelled(name: str, alike: Any) -> str:
    listed = ", ".join(f"{label!a} ({count})" for label, count in zip(alike.labels, alike.counts, strict=True))
    return f"labels of {name} differ in {alike.differ_in} only and are read as one: {listed}"


def _print(arguments: CheckArguments, found: dict[str, Any], unlabelled: dict[str, tuple[str, ...]]) -> None:
    from bort.inspection.page import doubts_table, labels_table, parts_table
    from bort.progress import out, say

    _table(*parts_table(found))
    if found["labels"]:
        _table(*labels_table(found["labels"], _SHOWN_LABELS))
    for name, columns in unlabelled.items():
        which = f"; its columns are {', '.join(columns)}" if columns else ""
        say(f"{name} has no column 'label', so its texts have no labels{which}")
    for finding in found["findings"]:
        out().print(f"- {finding}", soft_wrap=True)
    if not found["findings"]:
        out().print("nothing odd was found")
    if doubts := found["doubts"]:
        shown = min(arguments.show, len(doubts))
        title = f"labels to look at, {shown} of {len(doubts)}, the most doubtful first"
        _table(*doubts_table(doubts, arguments.show), title=title)
    if arguments.report is not None:
        out().print(f"{arguments.report}: the page", soft_wrap=True)


def _table(head: list[str], rows: list[list[object]], *, title: str | None = None) -> None:
    from rich.table import Table

    from bort.progress import out

    table = Table(title=title, title_justify="left", expand="text" in head)
    for column, name in enumerate(head):
        numbers = any(isinstance(row[column], int) for row in rows)
        if name == "text":  # one line per text; the page has the whole text
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
        else:
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    out().print(table)
