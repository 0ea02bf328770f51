"""`bort suggest`: which texts to label next."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

from bort.bounds import PositiveInt, validate
from bort.cli.parser import ONE_OR_MORE
from bort.cli.results import PredictResult
from bort.errors import BortError

_SHOWN = 10
_ANSWER = ("prediction", "probability")
"""Columns of the model's answer in the output."""


@dataclass
class SuggestArguments:
    """Arguments of `bort suggest`.

    Example:
        >>> SuggestArguments("runs/mine", "texts.txt").count
        50
    """

    model: str
    """fine-tuned or exported model; or an encoder (bort-nano), on whose vectors a linear head is fitted to
    --labelled"""
    input: str = "-"
    """texts to choose from: file (.csv, .tsv, .jsonl, .parquet, .txt with one text per line), hub data set
    (owner/name:split), or - for standard input"""
    output: str = "-"
    """file for the chosen texts (.csv, .tsv or .jsonl), or - for JSON lines on standard output"""
    count: PositiveInt = 50
    """number of texts to choose"""
    labelled: list[str] = field(default_factory=list)
    """labelled files, such as the model's training and development data; chosen texts differ from theirs"""
    encoder: str = "bort-nano"
    """encoder that measures the similarity of texts; if --model is an encoder, that one is used"""
    most: PositiveInt = 20_000
    """maximum number of texts to consider, sampled at random from larger data"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    label: ONE_OR_MORE = "label"
    """column with the label or the list of labels; several names are 0/1 columns, one per label; empty in the output"""
    label_separator: str | None = None
    """separator of several labels in the label column, such as ; in a;b; an empty cell means no labels; it also
    separates predicted labels in CSV and TSV, where ; is the default"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    input_format: Literal["auto", "csv", "tsv", "jsonl", "txt"] = "auto"
    """input format; auto: by the file extension, and plain text with one text per line for standard input"""
    output_format: Literal["auto", "csv", "tsv", "jsonl"] = "auto"
    """output format; auto: by the file extension, and JSON lines for standard output"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""

    def check(self) -> None:
        """Refuse columns that the model's answer would overwrite.

        Raises:
            BortError: The first of them.
        """
        labels = [self.label] if isinstance(self.label, str) else self.label
        for setting, columns in {"text": [self.text], "text_b": [self.text_b], "label": labels}.items():
            for column in columns:
                if column in _ANSWER:
                    rule = "must be another column: the model's answer is written into this one"
                    raise BortError(rule, setting=setting, value=column)


def suggest(arguments: SuggestArguments) -> PredictResult:
    """Choose the texts to label next: those the model is unsure of, different from each other and from labelled texts.

    From the more uncertain half of the texts, it repeatedly takes the one with the largest product of uncertainty and
    distance to the nearest labelled or chosen text. So the first k rows of the output are a good choice for any k. Rows
    keep their columns and get an empty `label` and the model's `prediction` and `probability`. Texts that are already
    labelled, repeated or blank are left out.

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
    from bort.data.tables.labels import unify_labels
    from bort.data.tables.writer import output_format, row_writer
    from bort.files import check_apart
    from bort.inspection.suggest import suggest_texts

    validate(arguments)
    if arguments.input == "-" and sys.stdin is None:
        raise BortError("is closed", file="standard input")
    kind = output_format(arguments.output, arguments.output_format)
    columns = Columns(arguments.text, arguments.text_b, arguments.label, arguments.delimiter, arguments.label_separator)
    columns.check_apart()
    check_apart([("output", arguments.output)], [arguments.input, *arguments.labelled])
    form: Any = arguments.input_format
    if form == "auto":
        form = "txt" if arguments.input == "-" else None
    files = unify_labels([read_examples(file, columns) for file in arguments.labelled])
    labelled = [example for file in files for example in file]
    source = sys.stdin.buffer if arguments.input == "-" else arguments.input
    read = _drawn(stream_rows(source, columns, format=form), arguments.most)
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
            answer = dict(zip(_ANSWER, (said, each.probability), strict=True))
            empty = dict.fromkeys(columns.labels)
            given = {name: cell for name, cell in read[each.place][0].items() if name not in (*answer, *empty)}
            write({**given, **empty, **answer})
    if arguments.output != "-":
        _print([(read[each.place][1], each) for each in found], arguments.output, len(read))
    return PredictResult({"rows": len(found), "texts": len(read)}, arguments.output, len(found), 0)


def _drawn(rows: Iterable[Any], most: int) -> list[Any]:
    """A fixed random sample of the rows, in their order; only as many are held."""
    import numpy as np

    from bort.progress import say

    rng, count = np.random.default_rng(0), 0
    kept: list[tuple[int, Any]] = []
    for count, row in enumerate(rows, 1):
        if count <= most:
            kept.append((count, row))
        elif (place := int(rng.integers(count))) < most:
            kept[place] = (count, row)
    if count > most:
        say(f"{most:,} of the {count:,} texts are drawn by chance; --most looks at more")
        kept.sort(key=itemgetter(0))
    return [row for _, row in kept]


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
