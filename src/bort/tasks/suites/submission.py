"""The files that the leaderboards accept, and the zip of them.

gluebenchmark.com accepts `index<TAB>prediction` with a header, super.gluebenchmark.com one JSON object per line with
the official `idx`; both expect fixed file names in one flat zip. RACE has no server: its file is a list of passages
with answers. The formats are those that jiant, the toolkit of the suites' authors, writes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import write_aside
from bort.tasks.suites.casting import CastRow
from bort.tasks.suites.scoring import Logits, answers
from bort.tasks.suites.table import TASKS
from bort.tasks.suites.task_entry import Suite, SuiteTask

_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def content(task: SuiteTask, rows: Sequence[CastRow], logits: Logits) -> str:
    """The contents of a task's file.

    Args:
        task: The task.
        rows: All its test rows, in order.
        logits: Logits in the order of the task's labels. *Shape:* (rows, labels).
    """
    given = answers(task, rows, logits)
    if task.suite == "glue":
        lines = [f"{row.idx[0]}\t{_cell(say)}" for row, say in zip(rows, given, strict=True)]
        return "\n".join(["index\tprediction", *lines]) + "\n"
    if task.suite == "race":
        by_passage = groupby(zip(rows, given, strict=True), key=lambda each: each[0].idx[0])
        passages = [{"id": passage, "answers": [say for _, say in group]} for passage, group in by_passage]
        return json.dumps(passages, indent=1) + "\n"
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in _records(task, rows, given))


def _cell(answer: str | float) -> str:
    return answer if isinstance(answer, str) else f"{answer:.3f}"


def _records(task: SuiteTask, rows: Sequence[CastRow], given: Sequence[str | float]) -> list[dict[str, Any]]:
    if task.shape == "record":
        questions = [idx[1] for idx, _ in groupby(rows, key=lambda row: row.idx)]
        return [{"idx": idx, "label": say} for idx, say in zip(questions, given, strict=True)]
    spelt = dict(zip(task.labels, task.submitted or task.labels, strict=True))
    said = [spelt[str(say)] for say in given]
    if task.shape != "multirc":
        return [{"idx": row.idx[0], "label": say} for row, say in zip(rows, said, strict=True)]
    records: dict[Any, dict[Any, list[dict[str, Any]]]] = {}
    for row, say in zip(rows, said, strict=True):
        passage, question, answer = row.idx
        records.setdefault(passage, {}).setdefault(question, []).append({"idx": answer, "label": say})
    return [
        {"idx": p, "passage": {"questions": [{"idx": q, "answers": found} for q, found in questions.items()]}}
        for p, questions in records.items()
    ]


def write(task: SuiteTask, rows: Sequence[CastRow], logits: Logits, folder: str | Path) -> Path:
    """Write a task's file atomically and return its path."""
    file = Path(folder) / task.submission
    with write_aside(file) as out:
        out.write(content(task, rows, logits))
    return file


def count_answers(task: SuiteTask, file: Path) -> int:
    """Count the answers in a file, in the same units as `SuiteTask.counts`.

    Raises:
        BortError: The file does not hold answers to the task.
    """
    try:
        text = file.read_text("utf-8")
        # An answer may contain characters that end a line in Unicode, but not in JSON or on the leaderboard.
        lines = text.removesuffix("\n").split("\n")
        if task.suite == "glue":
            header, *lines = lines
            if header != "index\tprediction":
                raise ValueError("the header must be index<TAB>prediction")
            return len(lines)
        if task.suite == "race":
            return sum(len(passage["answers"]) for passage in json.loads(text))
        records = [json.loads(line) for line in lines]
        if task.shape == "multirc":
            return sum(len(q["answers"]) for record in records for q in record["passage"]["questions"])
        return len(records)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise BortError(f"must be a file of answers to {task.title} ({error})", file=file) from None


def pack(suite: Suite, folder: str | Path, unanswered: Collection[str] = ()) -> tuple[Path, dict[str, str]]:
    """Zip a suite's files in their folder.

    A file with a wrong number of answers is left out, because the leaderboard would reject it.

    Args:
        suite: The suite whose files are packed.
        folder: Folder with the files; the zip, such as `glue.zip`, is written there.
        unanswered: Names of tasks that could not be answered; what the folder has of them is old, and is left out.

    Returns:
        The zip, and for each task that is not in it the reason.
    """
    folder = Path(folder)
    whole, lacking = [], {}
    for task in TASKS.values():
        if task.suite != suite:
            continue
        file = folder / task.submission
        if not file.is_file():
            lacking[task.title] = "no answers"
        elif task.name in unanswered:
            lacking[task.title] = f"no new answers, and {file.name} is of an earlier submission"
        elif (found := count_answers(task, file)) != task.counts["test"]:
            lacking[task.title] = f"{found:,} answers where the leaderboard wants {task.counts['test']:,}"
        else:
            whole.append(file)
    path = folder / f"{suite}.zip"
    with write_aside(path, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in whole:
            # A fixed date, so that the same answers give the same file.
            info = zipfile.ZipInfo(file.name, _FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, file.read_bytes())
    return path, lacking
