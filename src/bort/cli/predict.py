"""`bort predict`: labels for a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bort.bounds import PositiveInt, validate


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
    window: PositiveInt = 1024
    """rows held in memory at a time; a smaller number answers a slow stream sooner"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""


def predict(arguments: PredictArguments) -> int:
    """Label texts, keeping their order and columns; returns the number of rows.

    Each row comes out with `prediction` and, for a classifier, `probability` and one `p(LABEL)` a label; they replace
    columns of the same names. `prediction` is empty (null) where a model exported with --min-precision is not sure
    enough. A file is written whole or not at all; input of any length is read in bounded memory.
    """
    from collections import deque
    from contextlib import nullcontext

    from bort.data.tables.examples import Columns, Example, stream_rows
    from bort.data.tables.writer import output_format, row_writer
    from bort.errors import BortError
    from bort.predict.predictor import Predictor
    from bort.progress import bar, console

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    kind = output_format(arguments.output, arguments.output_format)
    predictor = Predictor(arguments.model, threads=arguments.threads)
    columns = Columns(arguments.text, arguments.text_b)
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    form = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None  # type: ignore[assignment]
    waiting: deque[dict[str, Any]] = deque()

    def examples() -> Iterator[Example]:
        for row, example in stream_rows(source, columns, format=form):  # type: ignore[arg-type]
            waiting.append(row)
            yield example

    to_stdout = arguments.output == "-"
    # Rows on a terminal are progress enough, and a bar would stand among them.
    progress = nullcontext() if to_stdout and sys.stdout and sys.stdout.isatty() else bar("predicting")
    count = 0
    with row_writer(arguments.output, kind) as write, progress as shown:
        for answer in predictor.stream(examples(), window=arguments.window):
            added: dict[str, object] = {"prediction": answer.label}
            if answer.probabilities:
                added["probability"] = round(max(answer.probabilities.values()), 6)
                added |= {f"p({name})": round(p, 6) for name, p in answer.probabilities.items()}
            write({**waiting.popleft(), **added})
            count += 1
            if to_stdout and not waiting:
                sys.stdout.flush()
            if shown is not None and count % 256 == 0:
                shown.update(count, f"{count:,} rows")
    for line in predictor.told():
        console().print(line, soft_wrap=True)
    return count
