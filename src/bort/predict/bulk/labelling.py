"""Label rows into one output, as `bort predict` writes it, wherever predictions are computed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bort.data.tables.examples import Columns, Example
from bort.data.tables.readers import Format
from bort.data.tables.writer import OutputFormat, row_writer
from bort.errors import BortError
from bort.predict.bulk.blocks import BadRows, Block, OnError, Row, Source, examples_of, read_blocks, unread
from bort.predict.predictor import Prediction, Predictor
from bort.tasks.task import Task

Answered = Iterator[tuple[Block, Sequence[Prediction]]]
"""Blocks with the predictions of their examples."""
AnswerBlocks = Callable[[Iterator[Block]], Answered]
_DIGITS = 6


@dataclass(frozen=True)
class LabelJob:
    """Settings of a labelling job, which can be sent to other processes and machines.

    Attributes:
        columns: Names of the columns.
        input_format: Format of the rows; None takes it from the file extension.
        output_format: Format of the output.
        label_separator: Separator of the labels of a multi-label answer in a table.
        on_error: What happens to a row that cannot be read.
        window: Rows per block.
    """

    columns: Columns
    input_format: Format | None
    output_format: OutputFormat
    label_separator: str = ";"
    on_error: OnError = "stop"
    window: int = 1024


@dataclass(frozen=True)
class LabelledRows:
    """Counts of labelled rows.

    Attributes:
        rows: Number of rows written.
        skipped: Number of rows left out.
        unread: Number of rows that could not be read.
        first_errors: Errors of the first few of these.
        first_text: The first text.
        cut: Number of texts longer than the model's limit.
        unlike_training: Number of single texts for a model fine-tuned on pairs, or vice versa.
    """

    rows: int
    skipped: int = 0
    unread: int = 0
    first_errors: tuple[str, ...] = ()
    first_text: str = ""
    cut: int = 0
    unlike_training: int = 0


def answer_here(predictor: Predictor) -> AnswerBlocks:
    """Return a function that predicts blocks in this process, in order."""

    def answered(blocks: Iterator[Block]) -> Answered:
        for block in blocks:
            examples = examples_of(block)
            yield block, list(predictor.stream(examples, window=max(1, len(examples))))

    return answered


def label_rows(
    job: LabelJob,
    predictor: Predictor,
    sources: Iterable[Source],
    output: str,
    *,
    errors: str | None = None,
    answers: AnswerBlocks | None = None,
    on_block: Callable[[Block, int], None] | None = None,
) -> LabelledRows:
    """Label the rows of sources into one output, in order and in bounded memory.

    Args:
        job: Settings of the job.
        predictor: Has the task; also predicts, unless `answers` is given.
        sources: Sources to read.
        output: A file, which appears when it is complete, or - for standard output.
        errors: JSON lines file for rows that cannot be read; by default next to the output file.
        answers: Predicts blocks, and yields them in any order.
        on_block: Called with each written block and the number of rows so far.

    Raises:
        BortError: The input is invalid, the output cannot be written, or see `check_answer`.
    """
    check_answer(job, predictor.task, job.output_format)
    cut, unlike, rows, first_text = predictor.cut, predictor.unlike_training, 0, ""
    with (
        row_writer(output, job.output_format) as write,
        BadRows(job.on_error, output, errors) as bad,
    ):
        blocks = read_blocks(sources, job.columns, job.input_format, bad, rows=job.window)
        for block, answered in (answers or answer_here(predictor))(blocks):
            for row in _rows(job, predictor.task, block, answered):
                write(row)
            first = block[0][1]
            first_text = first.text if not rows and isinstance(first, Example) else first_text
            rows += len(block)
            if output == "-":
                sys.stdout.flush()
            if on_block is not None:
                on_block(block, rows)
    bad.remove_earlier()
    return LabelledRows(
        rows,
        0 if job.on_error == "label" else bad.count,
        bad.count,
        tuple(bad.first),
        first_text,
        predictor.cut - cut,
        predictor.unlike_training - unlike,
    )


def check_answer(job: LabelJob, task: Task, output_format: OutputFormat) -> None:
    """Refuse a text column that the answer would overwrite, and a separator that hides where a label ends.

    Args:
        job: Settings of the job.
        task: The model's task.
        output_format: Format of the output; JSON lines have lists, and no separator.

    Raises:
        BortError: The model adds a column with the name of a text column, or a label holds the separator.
    """
    added = _added(task)
    for setting, column in (("text", job.columns.text), ("text_b", job.columns.text_b)):
        if column in added:
            rule = "must be another column: the model's answer is written into this one"
            raise BortError(rule, setting=setting, value=column)
    if task.kind == "multilabel" and output_format != "jsonl":
        for name in task.names:
            if job.label_separator in name:
                rule = f"must not occur in a label, and does in {name!r}; take another one, or write JSON lines"
                raise BortError(rule, setting="label_separator", value=job.label_separator)


def _added(task: Task) -> list[str]:
    """Names of the columns of an answer."""
    sure = ["probability"] if task.kind == "classification" else []
    return ["prediction", *sure, *(f"p({name})" for name in task.names)]


def _rows(job: LabelJob, task: Task, block: Block, answers: Sequence[Prediction]) -> Iterator[Row]:
    sure = task.kind == "classification"
    added = _added(task)
    following = iter(answers)
    for row, example in block:
        if isinstance(example, BortError):
            yield unread(row, job.columns.text, example, added)
            continue
        answer = next(following)
        label, found = answer.label, answer.probabilities.values()
        if isinstance(label, tuple) and job.output_format != "jsonl":
            label = job.label_separator.join(label)
        first = [max(found)] if sure else []
        values = [label, *(round(p, _DIGITS) for p in (*first, *found))]
        no_error = {"error": row.get("error")} if job.on_error == "label" else {}
        yield {**row, **dict(zip(added, values, strict=True)), **no_error}
