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
    """a fine-tuned or exported model: a folder or a hub name"""
    input: ONE_OR_MORE = "-"
    """file (.csv, .tsv, .jsonl, .parquet, .txt with one text a line), hub data set (owner/name:split), or - for
    standard input; or several of them, patterns ('in/*.parquet') and addresses of object stores (s3://...) among them,
    read one after another"""
    output: str = "-"
    """file (.csv, .tsv or .jsonl), or - for standard output; or a folder (that exists, or with a / at the end), which
    gets one file for each of the input and a _manifest.json of those that are done"""
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
    """threads that compute; by default one a core, and of --workers one each"""
    workers: str = "local"
    """where it is computed: local is this process; a number is so many processes of this machine; ray is the running
    Ray cluster or a new one on this machine's cores, and HOST:PORT the cluster whose head listens there. Each worker
    holds the model once. Processes share the rows of a file, or take whole files where there are enough of them; a
    cluster takes files and needs a folder as --output"""
    worker_retries: NonNegativeInt = 2
    """of a cluster: how often a file is begun anew whose worker died"""
    keep_order: bool = True
    """whether rows stand in the order of the input; without it --workers N writes them as they are ready, and a cluster
    finishes files in any order (each file's own rows keep theirs)"""
    resume: bool = False
    """of a folder as --output: leave the files that are done and have not changed, and do the others"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "what": ("model", "input", "output", "text", "text_b", "long"),
        "formats": ("input_format", "output_format", "delimiter", "label_separator"),
        "rows that cannot be read": ("on_error", "errors"),
        "where": ("window", "threads", "workers", "worker_retries", "keep_order", "resume"),
    }

    @property
    def inputs(self) -> list[str]:
        """All that is named as input."""
        return [self.input] if isinstance(self.input, str) else list(self.input)

    @property
    def into_folder(self) -> bool:
        """Whether each input becomes a file of its own."""
        return self.output != "-" and (self.output.endswith("/") or Path(self.output).expanduser().is_dir())

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: The first that does not.
        """
        if self.errors is not None and self.on_error == "stop":
            raise BortError("needs --on-error skip or label", setting="errors", value=self.errors)
        if self.workers.lstrip("-").isdecimal():
            if int(self.workers) < 1:
                raise BortError("must be at least 1", setting="workers", value=self.workers)
        else:
            check_workers(self.workers, Needs(retries=self.worker_retries))
            if self.workers != LOCAL and not self.into_folder:
                rule = "a cluster labels file by file; name a folder, with a / at its end"
                raise BortError(rule, setting="output", value=self.output)
        if self.into_folder and "-" in self.inputs:
            raise BortError("is a folder; standard input goes into a file", file=self.output)
        if len(self.inputs) > 1 and "-" in self.inputs:
            raise BortError("standard input is read alone", setting="input", value="-")
        if self.into_folder and self.errors is not None:
            rule = "of a folder each file's bad rows stand beside it; leave --errors out"
            raise BortError(rule, setting="errors", value=self.errors)
        if self.resume and not self.into_folder:
            raise BortError("needs a folder as --output, in which files may be done", setting="resume", value=True)


def predict(arguments: PredictArguments) -> PredictResult:
    """Label texts, keeping their order and columns.

    Each row comes out with `prediction` and, for a classifier, `probability` and one `p(LABEL)` column per label; they
    replace columns of the same names. `prediction` is empty (null) where a model exported with --min-precision is not
    sure enough. A multi-label model gives all labels above their thresholds, a list in JSON lines and a;b in tables,
    and no `probability`. Files are written atomically; input of any length is read in bounded memory. Empty input gives
    empty output.

    Many files become one, or with a folder as --output one each: CSV and TSV stay so, all else becomes JSON lines
    (unless --output-format says another). Repeat a command that was interrupted with --resume.

    Example:
        >>> import bort
        >>> result = bort.predict(bort.PredictArguments("runs/topics", "texts.txt", "labels.csv"))
        >>> result.output, result.rows
        ('labels.csv', 200)
    """
    from bort.data.tables.examples import Columns
    from bort.data.tables.writer import output_format
    from bort.predict.bulk.blocks import ERRORS, bad_rows_told, errors_path
    from bort.predict.bulk.files import OpenModel
    from bort.predict.bulk.labelling import LabelJob
    from bort.predict.bulk.places import expand
    from bort.predict.bulk.run import Placement, label_into_folder, label_into_one
    from bort.progress import bar, console

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
    # Rows on a terminal are progress enough, and a bar would stand among them.
    quiet = a.output == "-" and sys.stdout and sys.stdout.isatty()
    several = len(sources) if into_folder and len(sources) > 1 else None
    with nullcontext() if quiet else bar("predicting", several) as shown:
        if into_folder:
            folder = str(Path(a.output).expanduser()) if "://" not in a.output else a.output
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
        console().print(line, soft_wrap=True)
    figures = {"rows": done.rows, "skipped": done.skipped, **({"files": len(sources)} if into_folder else {})}
    return PredictResult(figures, a.output, done.rows, done.skipped)


def _tell_of_header(line: str, text: str) -> None:
    """Say so where the first line of plain text looks like the header of a table."""
    from bort.progress import console

    cells = [cell.strip().strip('"') for cell in re.split(r"[,;\t|]", line)]
    if text in cells:
        console().print(
            f"the first line, {line!r}, is taken for a text; if it is the header of a table, give --input-format csv",
            soft_wrap=True,
        )
