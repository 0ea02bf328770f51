"""`bort predict`: labels for a file or standard input."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.results import PredictResult
from bort.errors import BortError

if TYPE_CHECKING:
    from bort.data.tables.examples import Example

Row = dict[str, Any]
_SHOWN_ERRORS = 5


@dataclass
class PredictArguments:
    """Arguments of `bort predict`."""

    model: str
    """a fine-tuned or exported model: a folder or a hub name"""
    input: str = "-"
    """file (.csv, .tsv, .jsonl, .parquet, .txt with one text a line), hub data set (owner/name:split), or - for
    standard input"""
    output: str = "-"
    """file (.csv, .tsv or .jsonl), or - for standard output"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """format of the input; auto goes by the extension, and takes standard input for plain text, one a line"""
    output_format: Literal["auto", "csv", "tsv", "jsonl"] = "auto"
    """format of the output; auto goes by the extension, and writes JSON lines to standard output"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    delimiter: str | None = None
    """what stands between the cells of a CSV or TSV input: a character, or comma, semicolon, tab, pipe; by default it
    is found by the header"""
    label_separator: str = ";"
    """of a model that may give a text several labels: what stands between them in CSV and TSV; JSON lines hold lists"""
    on_error: Literal["stop", "skip", "label"] = "stop"
    """what a row that cannot be read does: stop ends the job and writes nothing; skip leaves the row out; label keeps
    it, without a prediction and with the reason in a column `error`"""
    errors: str | None = None
    """of --on-error skip and label: JSON lines file of those rows, with line and reason; by default OUTPUT.errors.jsonl
    beside an output file, and none with standard output"""
    window: PositiveInt = 1024
    """rows held in memory at a time; a smaller number answers a slow stream sooner"""
    long: Literal["first", "mean", "max"] = "first"
    """what is answered of a single text that is longer than the model takes: first goes by its beginning; mean and max
    go by all of it, in windows, whose probabilities (or values) are averaged, or of which the greatest of each label
    counts"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""

    def check(self) -> None:
        """Refuse a file of bad rows where the first of them ends the job.

        Raises:
            BortError: `errors` without `on_error`.
        """
        if self.errors is not None and self.on_error == "stop":
            raise BortError("needs --on-error skip or label", setting="errors", value=self.errors)


def predict(arguments: PredictArguments) -> PredictResult:
    """Label texts, keeping their order and columns.

    Each row comes out with `prediction` and, for a classifier, `probability` and one `p(LABEL)` column per label; they
    replace columns of the same names. `prediction` is empty (null) where a model exported with --min-precision is not
    sure enough. A multi-label model gives all labels above their thresholds, a list in JSON lines and a;b in tables,
    and no `probability`. Files are written atomically; input of any length is read in bounded memory. Empty input gives
    empty output.
    """
    from bort.data.tables.examples import Columns, stream_rows
    from bort.data.tables.writer import output_format, row_writer
    from bort.predict.predictor import Predictor
    from bort.progress import bar, console

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    kind = output_format(arguments.output, arguments.output_format)
    predictor = Predictor(arguments.model, threads=arguments.threads, long=arguments.long)
    columns = Columns(arguments.text, arguments.text_b, delimiter=arguments.delimiter)
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    form = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None  # type: ignore[assignment]
    waiting: deque[tuple[Row, BortError | None]] = deque()
    """Rows that are read and not yet written; a bad one with what is wrong."""

    def on_bad(error: BortError, row: Row) -> None:
        if arguments.on_error == "skip":
            bad.add(error, row)
        else:
            waiting.append((row, error))

    def examples() -> Iterator[Example]:
        skips = None if arguments.on_error == "stop" else on_bad
        for row, example in stream_rows(source, columns, format=form, on_bad=skips):  # type: ignore[arg-type]
            waiting.append((row, None))
            if form == "txt" and example.line == 1 and arguments.input == "-":
                _tell_of_header(example.text, arguments.text)
            yield example

    names = predictor.task.names
    added = ["probability"] if predictor.task.kind == "classification" else []
    added += [f"p({name})" for name in names]
    to_stdout = arguments.output == "-"
    # Rows on a terminal are progress enough, and a bar would stand among them.
    progress = nullcontext() if to_stdout and sys.stdout and sys.stdout.isatty() else bar("predicting")
    count = 0
    with row_writer(arguments.output, kind) as write, progress as shown, BadRows(arguments) as bad:

        def write_bad() -> None:
            while waiting and (error := waiting[0][1]) is not None:
                row, _ = waiting.popleft()
                bad.add(error, row)
                nothing = dict.fromkeys(["prediction", *added])
                kept = {arguments.text: row["raw"]} if list(row) == ["raw"] else row
                write({**kept, **nothing, "error": str(error)})

        for answer in predictor.stream(examples(), window=arguments.window):
            write_bad()
            row, _ = waiting.popleft()
            label, found = answer.label, answer.probabilities.values()
            if isinstance(label, tuple) and kind != "jsonl":
                label = arguments.label_separator.join(label)
            first = [max(found)] if "probability" in added else []
            values = [label, *(round(p, 6) for p in (*first, *found))]
            write(
                {
                    **row,
                    **dict(zip(["prediction", *added], values, strict=True)),
                    **({"error": None} if arguments.on_error == "label" else {}),
                }
            )
            count += 1
            if to_stdout and not waiting:
                sys.stdout.flush()
            if shown is not None and count % 256 == 0:
                shown.update(count, f"{count:,} rows")
        write_bad()
    bad.tell()
    for line in predictor.told():
        console().print(line, soft_wrap=True)
    labelled = arguments.on_error == "label"
    written, skipped = count + (bad.count if labelled else 0), 0 if labelled else bad.count
    return PredictResult({"rows": written, "skipped": skipped}, arguments.output, written, skipped)


def _tell_of_header(line: str, text: str) -> None:
    """Say so where the first line of plain text looks like the header of a table."""
    from bort.progress import console

    cells = [cell.strip().strip('"') for cell in re.split(r"[,;\t|]", line)]
    if text in cells:
        console().print(
            f"the first line, {line!r}, is taken for a text; if it is the header of a table, give --input-format csv",
            soft_wrap=True,
        )


class BadRows:
    """Counts the rows that could not be read, and keeps them in a file of their own.

    Args:
        arguments: The settings of the command.
    """

    def __init__(self, arguments: PredictArguments) -> None:
        self.count = 0
        beside = None if arguments.output == "-" else f"{arguments.output}.errors.jsonl"
        self._path = arguments.errors or beside
        self._what = "left out" if arguments.on_error == "skip" else "without a prediction"
        self._first: list[BortError] = []
        self._file = ExitStack()
        self._write: Callable[[Row], None] | None = None

    def __enter__(self) -> BadRows:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._file.__exit__(*error)

    def add(self, error: BortError, row: Row) -> None:
        """Take a row and what is wrong with it."""
        from bort.data.tables.writer import row_writer

        self.count += 1
        if len(self._first) < _SHOWN_ERRORS:
            self._first.append(error)
        if self._path is not None:
            if self._write is None:
                self._write = self._file.enter_context(row_writer(self._path, "jsonl"))
            self._write({"line": error.line, "error": str(error), "row": row})

    def tell(self) -> None:
        """Say how many there were, with the first of them."""
        from bort.progress import console

        for error in self._first:
            console().print(str(error), soft_wrap=True)
        if self.count:
            place = "" if self._path is None else f", see {self._path}"
            console().print(f"rows that cannot be read, {self._what}: {self.count:,}{place}", soft_wrap=True)
