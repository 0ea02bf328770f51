"""`bort embed`: one vector per text of a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.results import PredictResult
from bort.errors import BortError


@dataclass
class EmbedArguments:
    """Arguments of `bort embed`.

    Example:
        >>> EmbedArguments("bort-nano", "vectors.npy", "texts.csv").normalize
        'auto'
    """

    model: str
    """encoder: bort-nano, a folder of pretrain, export, Hugging Face or sentence-transformers, or a hub name"""
    output: str
    """file (.parquet or .jsonl: the input's columns and the vectors; .npy: only the vectors), or - for JSON lines on
    standard output"""
    input: str = "-"
    """file (.csv, .tsv, .jsonl, .parquet, .txt with one text per line), hub data set (owner/name:split), or - for
    standard input"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """input format; auto: by the file extension, and plain text with one text per line for standard input"""
    text: str = "text"
    """column with the text"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    column: str = "embedding"
    """column for the vector; replaces a column of the same name"""
    normalize: Literal["auto", "yes", "no"] = "auto"
    """scale each vector to length 1, so that dot products are cosines; auto: as the model's folder says"""
    on_error: Literal["stop", "skip", "label"] = "stop"
    """what to do with a row that cannot be read; stop: end the job and write nothing; skip: leave the row out; label:
    keep it without a vector, with the reason in a column `error` (not for .npy, which has no columns)"""
    errors: str | None = None
    """with --on-error skip or label: JSON lines file for those rows, with line and reason; by default
    OUTPUT.errors.jsonl next to an output file (if all rows can be read, an earlier one is removed), and none for
    standard output"""
    batch_size: PositiveInt = 256
    """texts per batch; this many rows are held in memory"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""

    def check(self) -> None:
        """Reject incompatible settings.

        Raises:
            BortError: The first conflict.
        """
        from bort.files import check_local
        from bort.predict.bulk.blocks import check_on_error

        check_local("output", self.output)
        check_on_error(self.on_error, self.errors, self.output, text=self.text, column=self.column)
        if self.column == self.text and not self.output.lower().endswith(".npy"):  # an array has no columns
            raise BortError("must be another column than the text's", setting="column", value=self.column)
        if self.on_error == "label" and self.output.lower().endswith(".npy"):
            rule = "an array has a vector for each row: take skip, or write .parquet or .jsonl"
            raise BortError(rule, setting="on_error", value=self.on_error)


def embed(arguments: EmbedArguments) -> PredictResult:
    """Compute a vector for each text, keeping row order and columns.

    Vectors are the same as those of `bort.Encoder`. Files are written atomically, and memory does not grow with the
    input. Empty input gives empty output.

    Example:
        >>> import tempfile
        >>> import bort
        >>> import numpy as np
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "mine.txt").write_text("Where is my parcel?\\nIt is late.\\n")
        ...     done = bort.embed(bort.EmbedArguments("bort-nano", f"{folder}/mine.npy", f"{folder}/mine.txt"))
        ...     vectors = np.load(done.output)
        >>> vectors.shape
        (2, 384)
    """
    import numpy as np

    from bort.data.tables.examples import Columns
    from bort.data.tables.vector_writer import vector_format, vector_writer
    from bort.files import check_apart
    from bort.predict.bulk.blocks import BadRows, errors_path, examples_of, read_blocks, unread
    from bort.predict.encoder import Encoder
    from bort.progress import bar, say

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    is_array = vector_format(arguments.output) == "npy"
    errors = errors_path(arguments.output, arguments.on_error, arguments.errors)
    # An output that has each row of the input may replace it.
    output = arguments.output if is_array or arguments.on_error == "skip" else None
    check_apart([("errors", errors), ("output", output)], [arguments.input])
    encoder = Encoder(arguments.model, threads=arguments.threads)
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    form: Any = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None
    columns = Columns(arguments.text, delimiter=arguments.delimiter, pairs=False)
    normalize = {"auto": None, "yes": True, "no": False}[arguments.normalize]
    done = 0
    with (
        vector_writer(arguments.output, encoder.size, column=arguments.column, types=_types(arguments)) as write,
        BadRows(arguments.on_error, arguments.output, arguments.errors) as bad,
        bar("embedding") as shown,
    ):
        for block in read_blocks([(source, None)], columns, form, bad, rows=arguments.batch_size):
            vectors = np.full((len(block), encoder.size), np.nan, np.float32)
            read = [not isinstance(example, BortError) for _, example in block]
            texts = [example.text for example in examples_of(block)]
            vectors[read] = encoder.encode(texts, batch_size=arguments.batch_size, normalize=normalize)
            rows = [
                unread(row, arguments.text, example, ())
                if isinstance(example, BortError)
                else {**row, "error": row.get("error")}
                if arguments.on_error == "label"
                else row
                for row, example in block
            ]
            write(rows, vectors)
            done += len(block)
            shown.update(done, f"{done:,} texts")
    bad.remove_earlier()
    for line in [*bad.told(), *encoder.told()]:
        say(line)
    skipped = 0 if arguments.on_error == "label" else bad.count
    return PredictResult({"rows": done, "skipped": skipped}, arguments.output, done, skipped)


def _types(arguments: EmbedArguments) -> Mapping[str, Any]:
    """The types of the columns, if both input and output are Parquet: rows would only show those of their values."""
    from bort.data.tables.readers import format_of, parquet_types
    from bort.data.tables.vector_writer import vector_format

    is_file = arguments.input != "-" and arguments.input_format == "auto"
    if not is_file or vector_format(arguments.output) != "parquet" or format_of(arguments.input) != "parquet":
        return {}
    return parquet_types(arguments.input)
