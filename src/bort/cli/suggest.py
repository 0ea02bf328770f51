"""`bort suggest`: which texts to label next."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.parser import ONE_OR_MORE
from bort.cli.results import PredictResult
from bort.errors import BortError

_SHOWN = 10


@dataclass
class SuggestArguments:
    """Arguments of `bort suggest`.

    Example:
        >>> SuggestArguments("runs/mine", "texts.txt").count
        50
    """

    model: str
    """a fine-tuned or exported model; or an encoder (bort-nano), to whose vectors a linear head is fitted with
    --labelled"""
    input: str = "-"
    """texts to choose from: a file (.csv, .tsv, .jsonl, .parquet, .txt with one text a line), a hub data set
    (owner/name:split), or - for standard input"""
    output: str = "-"
    """file to label in (.csv, .tsv or .jsonl), or - for JSON lines on standard output"""
    count: PositiveInt = 50
    """texts to choose"""
    labelled: list[str] = field(default_factory=list)
    """labelled files, such as the training and development data of the model: what is chosen is unlike them"""
    encoder: str = "bort-nano"
    """encoder that says how near texts are; an encoder given as --model is used itself"""
    most: PositiveInt = 20_000
    """texts that are looked at, at most; of more so many are drawn by chance"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: ONE_OR_MORE = "label"
    """name of the column with the label, in --labelled and in the output, where it is empty; or of several columns of 0
    and 1, one a label"""
    label_separator: str | None = None
    """what stands between several labels of one text in the label's column of --labelled; in a table it stands between
    those of a prediction, too, which ; does otherwise"""
    delimiter: str | None = None
    """what stands between the cells of CSV or TSV data: a character, or comma, semicolon, tab, pipe; by default it is
    found by the header"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """format of the input; auto goes by the extension, and takes standard input for plain text, one a line"""
    output_format: Literal["auto", "csv", "tsv", "jsonl"] = "auto"
    """format of the output; auto goes by the extension, and writes JSON lines to standard output"""
    threads: PositiveInt | None = None
    """threads that compute; by default one a core"""


def suggest(arguments: SuggestArguments) -> PredictResult:
    """Choose texts to label next: the model is unsure of them, and they are unlike each other and what is labelled.

    Of the texts of which the model is less sure, one after another is taken: the one whose uncertainty times its
    distance to the nearest labelled or chosen text is the greatest. So the first k of the output are good ones for any
    k. Rows come out with their columns, an empty `label`, and `prediction` and `probability` of the model. Texts that
    are labelled already, repeated or blank are left out.

    Example:

        >>> import tempfile
        >>> import bort
        >>> from pathlib import Path
        >>> labelled = ["text,label", "It is torn.,damage", "The zip broke.,damage", "Where is it?,delivery"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "mine.csv").write_text("\\n".join([*labelled, "It is late.,delivery"]))
        ...     _ = Path(folder, "more.txt").write_text("A hole.\\nThe parcel is late.\\nHello!\\n")
        ...     found = bort.suggest(
        ...         bort.SuggestArguments(
        ...             "bort-nano",
        ...             f"{folder}/more.txt",
        ...             f"{folder}/next.csv",
        ...             count=2,
        ...             labelled=[f"{folder}/mine.csv"],
        ...         )
        ...     )
        >>> found.rows
        2
    """
    from bort.data.tables.examples import Columns, read_examples, stream_rows
    from bort.data.tables.writer import output_format, row_writer
    from bort.inspection.suggest import suggest_texts

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    kind = output_format(arguments.output, arguments.output_format)
    columns = Columns(arguments.text, arguments.text_b, arguments.label, arguments.delimiter, arguments.label_separator)
    form: Any = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None
    labelled = [example for file in arguments.labelled for example in read_examples(file, columns)]
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    read = _drawn(list(stream_rows(source, columns, format=form)), arguments.most)
    found = suggest_texts(
        [example for _, example in read],
        labelled,
        arguments.model,
        count=arguments.count,
        encoder=arguments.encoder,
        threads=arguments.threads,
    )
    with row_writer(arguments.output, kind) as write:
        for each in found:
            said = each.prediction
            if isinstance(said, tuple) and kind != "jsonl":
                said = (arguments.label_separator or ";").join(said)
            answer = {"prediction": said, "probability": each.probability}
            empty = dict.fromkeys(columns.labels)
            given = {name: cell for name, cell in read[each.place][0].items() if name not in (*answer, *empty)}
            write({**given, **empty, **answer})
    if arguments.output != "-":
        _print([(read[each.place][1], each) for each in found], arguments.output, len(read))
    return PredictResult({"rows": len(found), "texts": len(read)}, arguments.output, len(found), 0)


def _drawn(rows: list[Any], most: int) -> list[Any]:
    """So many by chance, but always the same, in their order."""
    if len(rows) <= most:
        return rows
    import numpy as np

    from bort.progress import console

    console().print(f"{most:,} of the {len(rows):,} texts are drawn by chance; --most looks at more", soft_wrap=True)
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
    return [rows[int(place)] for place in chosen]


def _print(found: list[Any], output: str, count: int) -> None:
    from rich.table import Table

    from bort.inspection.inspect import shown_text
    from bort.progress import out

    table = Table(title=f"to be labelled next, {min(_SHOWN, len(found))} of {len(found)}", title_justify="left")
    table.expand = True
    table.add_column("the model says", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    for example, each in found[:_SHOWN]:
        said = each.prediction
        shown = f"{said:.4g}" if isinstance(said, float) else ", ".join(said) if isinstance(said, tuple) else said
        table.add_row(shown, "" if each.probability is None else f"{each.probability:.2f}", shown_text(example))
    out().print(table)
    out().print(f"{output}: {len(found):,} of {count:,} texts, to be labelled", soft_wrap=True)
