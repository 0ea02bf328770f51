"""Label files into a folder: names of the output files, and the labelling of one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from bort.data.tables.compressed import COMPRESSED
from bort.data.tables.readers import format_of
from bort.data.tables.writer import OutputFormat
from bort.errors import BortError
from bort.files import is_address
from bort.predict.bulk.blocks import Block, errors_path
from bort.predict.bulk.labelling import AnswerBlocks, LabelJob, LabelledRows, label_rows
from bort.predict.bulk.places import as_file, written_to
from bort.predict.predictor import Long, Predictor


@dataclass(frozen=True)
class OpenModel:
    """How a worker opens the model.

    Attributes:
        model: A folder that every worker sees, or a name.
        threads: Threads of each worker.
        long: See `Predictor`.
    """

    model: str
    threads: int | None = 1
    long: Long = "first"

    def open(self) -> Predictor:
        """Open the model."""
        return Predictor(self.model, threads=self.threads, long=self.long)


@dataclass(frozen=True)
class FileTask:
    """A file to label.

    Attributes:
        source: Path, address or hub name of the file.
        output: Path or address of the labelled file.
        output_format: Format of the output.
    """

    source: str
    output: str
    output_format: OutputFormat


def file_tasks(sources: Sequence[str], folder: str, asked: str) -> list[FileTask]:
    """Name each output file: its source's path without the folders that all have in common, and a new extension.

    By default, CSV and TSV keep their format, and everything else becomes JSON lines.

    Args:
        sources: Paths, addresses, or hub names.
        folder: Output folder, a path or an address.
        asked: Output format, or `auto`.

    Raises:
        BortError: Two files would have the same output, or an output would replace a file.
    """
    whole = [source if is_address(source) or is_hub(source) else _absolute(source) for source in sources]
    named = [name if is_address(name) or is_hub(name) else os.path.normpath(name) for name in whole]
    parents = [name.rpartition("/")[0].split("/") for name in named]
    common = 0
    while all(len(parts) > common for parts in parents) and len({parts[common] for parts in parents}) == 1:
        common += 1
    tasks: dict[str, FileTask] = {}
    for name, plain in zip(whole, named, strict=True):
        kind = _kind(name, asked)
        below = "/".join(plain.split("/")[common:])
        stem = below.replace(":", "-") if is_hub(name) else _without_extension(below)
        output = f"{folder.rstrip('/')}/{stem}.{kind}"
        if output in tasks:
            raise BortError(f"would become the same file as {tasks[output].source}; label them apart", file=name)
        tasks[output] = FileTask(name, output, kind)
    read = {os.path.realpath(name): name for name in whole}
    for output, task in tasks.items():
        if (replaced := read.get(os.path.realpath(output))) is not None:
            labels = "its labels" if replaced == task.source else f"the labels of {task.source}"
            raise BortError(f"would be replaced by {labels}; name another --output", file=replaced)
    return list(tasks.values())


def _absolute(source: str) -> str:
    """The absolute path of a file, without `..` unless that would name another file, as after a link to a folder."""
    given = Path(source).absolute()
    plain = Path(os.path.normpath(given))
    same = plain == given or not given.exists() or (plain.exists() and plain.samefile(given))
    return str(plain if same else given)


def label_file(
    job: LabelJob,
    predictor: Predictor,
    task: FileTask,
    *,
    answers: AnswerBlocks | None = None,
    on_block: Callable[[Block, int], None] | None = None,
) -> LabelledRows:
    """Label one file into another; files in an object store are downloaded and uploaded.

    Raises:
        BortError: The file is invalid, or cannot be read or written.
    """
    beside = errors_path(task.output, job.on_error, None)
    with as_file(task.source) as source, written_to(task.output, beside=beside) as output:
        mine = replace(job, output_format=task.output_format)
        return label_rows(mine, predictor, [(source, task.source)], output, answers=answers, on_block=on_block)


def is_hub(name: str) -> bool:
    """Whether a name refers to a data set on the hub."""
    return not is_address(name) and ":" in name and not Path(name).exists() and format_of(name) == "hub"


def _kind(name: str, asked: str) -> OutputFormat:
    if asked in get_args(OutputFormat):
        return asked  # type: ignore[return-value]
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    own = next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")
    return own[1:] if own in (".csv", ".tsv") else "jsonl"  # type: ignore[return-value]


def _without_extension(name: str) -> str:
    path = Path(name)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return str(path.with_suffix(""))


def settings_of(job: LabelJob, model: OpenModel) -> dict[str, Any]:
    """Settings, apart from the model, that labels depend on, for the ledger of an output folder."""
    columns = job.columns
    return {
        "text": columns.text,
        "text_b": columns.text_b,
        "delimiter": columns.delimiter,
        "input_format": job.input_format,
        "label_separator": job.label_separator,
        "on_error": job.on_error,
        "long": model.long,
    }
