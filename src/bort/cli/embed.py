"""`bort embed`: one vector a text, for a file or standard input."""

from __future__ import annotations

import sys
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
    """an encoder: bort-nano, a folder of pretrain, export, Hugging Face or sentence-transformers, or a hub name"""
    output: str
    """file (.parquet or .jsonl: the input's columns and the vectors; .npy: the vectors alone), or - for JSON lines on
    standard output"""
    input: str = "-"
    """file (.csv, .tsv, .jsonl, .parquet, .txt with one text a line), hub data set (owner/name:split), or - for
    standard input"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """format of the input; auto goes by the extension, and takes standard input for plain text, one a line"""
    text: str = "text"
    """name of the column with the text"""
    delimiter: str | None = None
    """what stands between the cells of a CSV or TSV input: a character, or comma, semicolon, tab, pipe; by default it
    is found by the header"""
    column: str = "embedding"
    """name of the column with the vector; it replaces one of the same name"""
    normalize: Literal["auto", "yes", "no"] = "auto"
    """whether each vector is scaled to length 1, so that products are cosines; auto: as the model's folder says"""
    on_error: Literal["stop", "skip", "label"] = "stop"
    """what a row that cannot be read does: stop ends the job and writes nothing; skip leaves the row out; label keeps
    it, without a vector and with the reason in a column `error` (not in .npy, which has no columns)"""
    errors: str | None = None
    """of --on-error skip and label: JSON lines file of those rows, with line and reason; by default OUTPUT.errors.jsonl
    beside an output file, and none with standard output"""
    batch_size: PositiveInt = 256
    """texts that are computed together; so many rows are held in memory"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: `errors` where the first bad row ends the job, or rows without a vector in an array.
        """
        if self.errors is not None and self.on_error == "stop":
            raise BortError("needs --on-error skip or label", setting="errors", value=self.errors)
        if self.on_error == "label" and self.output.lower().endswith(".npy"):
            rule = "an array has a vector for each row: take skip, or write .parquet or .jsonl"
            raise BortError(rule, setting="on_error", value=self.on_error)


def embed(arguments: EmbedArguments) -> PredictResult:
    """Give each text its vector, keeping order and columns.

    The vectors are those of `bort.Encoder`. Files are written whole or not at all; input of any length is read in
    bounded memory. Empty input gives empty output.

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
    from bort.predict.bulk.blocks import BadRows, errors_path, examples_of, read_blocks, unread
    from bort.predict.encoder import Encoder
    from bort.progress import bar, console

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    vector_format(arguments.output)
    encoder = Encoder(arguments.model, threads=arguments.threads)
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    form: Any = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None
    columns = Columns(arguments.text, delimiter=arguments.delimiter)
    normalize = {"auto": None, "yes": True, "no": False}[arguments.normalize]
    bad_rows = errors_path(arguments.output, arguments.on_error, arguments.errors)
    done = 0
    with (
        vector_writer(arguments.output, encoder.size, column=arguments.column) as write,
        BadRows(arguments.on_error, bad_rows) as bad,
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
                else {**row, "error": None}
                if arguments.on_error == "label"
                else row
                for row, example in block
            ]
            write(rows, vectors)
            done += len(block)
            shown.update(done, f"{done:,} texts")
    for line in [*bad.told(), *encoder.told()]:
        console().print(line, soft_wrap=True)
    skipped = 0 if arguments.on_error == "label" else bad.count
    return PredictResult({"rows": done, "skipped": skipped}, arguments.output, done, skipped)
