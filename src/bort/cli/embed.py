"""`bort embed`: one vector a text, for a file or standard input."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.results import PredictResult
from bort.errors import BortError


@dataclass
class EmbedArguments:
    """Arguments of `bort embed`."""

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
    batch_size: PositiveInt = 256
    """texts that are computed together; so many rows are held in memory"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""


def embed(arguments: EmbedArguments) -> PredictResult:
    """Give each text its vector, keeping order and columns.

    The vectors are those of `bort.Encoder`. Files are written whole or not at all; input of any length is read in
    bounded memory. Empty input gives empty output.
    """
    from bort.data.tables.examples import Columns, stream_rows
    from bort.data.tables.vector_writer import vector_format, vector_writer
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
    waiting: deque[dict[str, Any]] = deque()
    """Rows that are read and not yet written."""

    def texts() -> Iterator[str]:
        for row, example in stream_rows(source, columns, format=form):
            waiting.append(row)
            yield example.text

    normalize = {"auto": None, "yes": True, "no": False}[arguments.normalize]
    done = 0
    with vector_writer(arguments.output, encoder.size, column=arguments.column) as write, bar("embedding") as shown:
        for vectors in encoder.stream(texts(), batch_size=arguments.batch_size, normalize=normalize):
            write([waiting.popleft() for _ in vectors], vectors)
            done += len(vectors)
            shown.update(done, f"{done:,} texts")
    for line in encoder.told():
        console().print(line, soft_wrap=True)
    return PredictResult({"rows": done}, arguments.output, done, 0)
