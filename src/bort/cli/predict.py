"""`bort predict`: labels for a file or standard input."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from bort.bounds import NonNegativeInt, PositiveInt, validate
from bort.cli.parser import ONE_OR_MORE
from bort.cli.results import PredictResult
from bort.errors import BortError
from bort.workers import LOCAL, Needs, check_workers


@dataclass
class PredictArguments:
    """Arguments of `bort predict`.

    Example:
        >>> PredictArguments("runs/mine", "texts/*.parquet", "labels/", workers="8").into_folder
        True
    """

    model: str
    """fine-tuned or exported model: a folder or a hub name"""
    input: ONE_OR_MORE = "-"
    """file (.csv, .tsv, .jsonl, .parquet, .txt with one text per line), hub data set (owner/name:split), or - for
    standard input; or several inputs, also patterns ('in/*.parquet') and object store URLs (s3://...), read one after
    another"""
    output: str = "-"
    """file (.csv, .tsv or .jsonl), or - for standard output; or a folder (existing, or with a / at the end), which gets
    one file per input file and a _manifest.json of the finished files"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """input format; auto: by the file extension, and plain text with one text per line for standard input"""
    output_format: Literal["auto", "csv", "tsv", "jsonl"] = "auto"
    """output format; auto: by the file extension, and JSON lines for standard output"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    label_separator: str = ";"
    """with a multi-label model: separator of the predicted labels in CSV and TSV; JSON lines hold lists"""
    on_error: Literal["stop", "skip", "label"] = "stop"
    """what to do with a row that cannot be read; stop: end the job and write nothing; skip: leave the row out; label:
    keep it without a prediction, with the reason in a column `error`"""
    errors: str | None = None
    """with --on-error skip or label: JSON lines file for those rows, with line and reason; by default
    OUTPUT.errors.jsonl next to an output file (if all rows can be read, an earlier one is removed), and none for
    standard output"""
    window: PositiveInt = 1024
    """rows held in memory at a time; a smaller window answers a slow stream sooner"""
    long: Literal["first", "mean", "max"] = "first"
    """how to answer a single text that is longer than the model's limit; first: read only its beginning; mean, max:
    read all of it in windows, and take the mean of their probabilities (or values), or the maximum for each label"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core, and with --workers one per worker"""
    workers: str = "local"
    """where to compute; local: in this process; a number: in that many processes on this machine; ray: on the running
    Ray cluster, or a new one on this machine's cores; HOST:PORT: on the Ray cluster whose head listens there. Each
    worker holds one copy of the model. Processes share the rows of a file, or take whole files if there are enough; a
    cluster takes whole files and needs a folder as --output"""
    worker_retries: NonNegativeInt = 2
    """on a cluster: how often to restart a file whose worker died"""
    keep_order: bool = True
    """keep rows in the order of the input; without it, --workers N writes rows as they become ready, and a cluster
    finishes files in any order (the rows of a file keep their order)"""
    resume: bool = False
    """with a folder as --output: skip finished files that have not changed, and label the others"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "what": ("model", "input", "output", "text", "text_b", "long"),
        "formats": ("input_format", "output_format", "delimiter", "label_separator"),
        "rows that cannot be read": ("on_error", "errors"),
        "where": ("window", "threads", "workers", "worker_retries", "keep_order", "resume"),
    }

    @property
    def inputs(self) -> list[str]:
        """All inputs."""
        return [self.input] if isinstance(self.input, str) else list(self.input)

    @property
    def into_folder(self) -> bool:
        """Whether each input gets its own output file."""
        return self.output != "-" and (self.output.endswith("/") or Path(self.output).is_dir())

    def check(self) -> None:
        """Reject incompatible settings.

        Raises:
            BortError: The first conflict.
        """
        from bort.predict.bulk.blocks import check_on_error

        check_on_error(self.on_error, self.errors, self.output, text=self.text, text_b=self.text_b)
        if not self.label_separator:
            raise BortError("must not be empty", setting="label_separator", value="")
        if self.workers.lstrip("-").isdecimal():
            if int(self.workers) < 1:
                raise BortError("must be at least 1", setting="workers", value=self.workers)
        else:
            check_workers(self.workers, Needs(retries=self.worker_retries), other="a number")
            if self.workers != LOCAL and not self.into_folder:
                rule = "a cluster labels file by file; name a folder, with a / at its end"
                raise BortError(rule, setting="output", value=self.output)
        if self.worker_retries != type(self).worker_retries and (self.workers == LOCAL or self.workers.isdecimal()):
            raise BortError("is for a cluster: leave it out", setting="worker_retries", value=self.worker_retries)
        if not self.keep_order and self.workers == LOCAL:
            raise BortError("has no effect without --workers: leave it out", setting="keep_order", value=False)
        if self.into_folder and "-" in self.inputs:
            raise BortError("is a folder; standard input goes into a file", file=self.output)
        if len(self.inputs) > 1 and "-" in self.inputs:
            raise BortError("standard input is read alone", setting="input", value="-")
        if self.into_folder and self.errors is not None:
            rule = "of a folder each file's bad rows stand beside it; leave --errors out"
            raise BortError(rule, setting="errors", value=self.errors)
        if self.resume and not self.into_folder:
            rule = "needs a folder as --output; finished files there are skipped"
            raise BortError(rule, setting="resume", value=True)


def predict(arguments: PredictArguments) -> PredictResult:
    """Label texts, keeping their order and columns.

    Each row gets `prediction` and, from a classifier, `probability` and one `p(LABEL)` column per label; they replace
    columns of the same names. `prediction` is empty (null) if a model exported with --min-precision is not confident
    enough. A multi-label model gives all labels above their thresholds, as a list in JSON lines and as a;b in tables,
    and no `probability`. Files are written atomically, and memory does not grow with the input. Empty input gives empty
    output.

    Several input files become one output file, or one each if --output is a folder: CSV and TSV keep their format, all
    others become JSON lines (unless --output-format is given). To continue an interrupted run with a folder, repeat the
    command with --resume.

    Example:
        >>> import bort
        >>> result = bort.predict(bort.PredictArguments("runs/topics", "texts.txt", "labels.csv"))
        >>> result.output, result.rows
        ('labels.csv', 200)
    """
    from bort.data.tables.examples import Columns
    from bort.data.tables.writer import output_format
    from bort.files import check_apart
    from bort.predict.bulk.blocks import ERRORS, bad_rows_told, errors_path
    from bort.predict.bulk.files import OpenModel
    from bort.predict.bulk.labelling import LabelJob
    from bort.predict.bulk.places import expand
    from bort.predict.bulk.run import Placement, label_into_folder, label_into_one
    from bort.progress import bar, say

    validate(arguments)
    a, into_folder = arguments, arguments.into_folder
    if a.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    form = ("txt" if a.inputs == ["-"] else None) if a.input_format == "auto" else a.input_format
    kind = "jsonl" if into_folder else output_format(a.output, a.output_format)
    columns = Columns(a.text, a.text_b, delimiter=a.delimiter)
    job = LabelJob(columns, form, kind, a.label_separator, a.on_error, a.window)
    model = OpenModel(a.model, a.threads if a.workers == LOCAL else a.threads or 1, a.long)
    place = Placement(a.workers, a.keep_order, a.worker_retries)
    sources = expand(a.inputs)
    if not into_folder:
        # An output that has each row of the only input may replace it.
        output = a.output if len(sources) > 1 or a.on_error == "skip" else None
        check_apart([("errors", errors_path(a.output, a.on_error, a.errors)), ("output", output)], sources)
    # Rows on a terminal show progress enough, and a bar would mix with them.
    quiet = a.output == "-" and sys.stdout and sys.stdout.isatty()
    several = len(sources) if into_folder and len(sources) > 1 else None
    with nullcontext() if quiet else bar("predicting", several) as shown:
        if into_folder:
            folder = str(Path(a.output)) if "://" not in a.output else a.output
            done, predictor = label_into_folder(
                job, model, place, sources, folder, asked_format=a.output_format, resume=a.resume, shown=shown
            )
        else:
            given = [sys.stdin.buffer] if a.inputs == ["-"] else sources
            done, predictor = label_into_one(job, model, place, given, a.output, errors=a.errors, shown=shown)
    if a.inputs == ["-"] and form == "txt":
        _tell_of_header(done.first_text, a.text)
    beside = f"FILE{ERRORS}" if into_folder else errors_path(a.output, a.on_error, a.errors)
    for line in [*bad_rows_told(a.on_error, done.unread, done.first_errors, beside), *predictor.told()]:
        say(line)
    figures = {"rows": done.rows, "skipped": done.skipped, **({"files": len(sources)} if into_folder else {})}
    return PredictResult(figures, a.output, done.rows, done.skipped)


def _tell_of_header(line: str, text: str) -> None:
    """Warn if the first line of plain text looks like the header of a table."""
    from bort.progress import say

    cells = [cell.strip().strip('"') for cell in re.split(r"[,;\t|]", line)]
    if text in cells:
        say(f"the first line, {line!r}, is taken for a text; if it is the header of a table, give --input-format csv")
