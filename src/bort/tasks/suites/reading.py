"""Reads the official data of the suites, from a folder or from the hub, as rows for a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bort.data.tables.readers import numbered_rows
from bort.errors import BortError
from bort.progress import say
from bort.tasks.suites.casting import CastRow, cast_record
from bort.tasks.suites.records import Record
from bort.tasks.suites.table import HUB, SUITES
from bort.tasks.suites.task_entry import Cast, Part, SuiteTask

FROM_HUB = "hub"
"""Value that selects the hub instead of a folder."""


def read_part(
    task: SuiteTask, data: str | Path, part: Part, *, cast: Cast = "improved", labelled: bool = False
) -> list[CastRow]:
    """Read one part of a task's official data.

    Args:
        task: The task.
        data: The suite's folder, the task's own, or "hub".
        part: `train`, `dev` or `test`.
        cast: How rows are cast.
        labelled: Whether each row must have a label.

    Raises:
        BortError: There is no such file, or one of its rows is malformed; the error names the file and line.
    """
    if part not in task.counts:
        raise BortError(f"{task.title} has no {part} data; it has {', '.join(task.counts)}", setting="task")
    records = _hub(task, part) if str(data) == FROM_HUB else _local(task, Path(data), part)
    rows = [row for record in records for row in cast_record(task, record, cast)]
    if not rows:
        raise BortError(f"holds no row of {task.title}'s {part} data", file=data)
    if labelled:
        for row in rows:
            if row.example.label is None:
                raise BortError("a label must be there", file=row.example.source, line=row.example.line)
    return rows


def has_part(task: SuiteTask, data: str | Path, part: Part) -> bool:
    """Whether a folder holds a part; the hub holds all of them."""
    return part in task.counts and (str(data) == FROM_HUB or _find(task, Path(data), part) is not None)


def require_part(task: SuiteTask, data: str | Path, part: Part) -> None:
    """Raise an error if a folder lacks a part.

    Raises:
        BortError: There is no such folder, or no such file in it.
    """
    if str(data) == FROM_HUB or _find(task, Path(data), part) is not None:
        return
    if not Path(data).is_dir():
        raise BortError("no such folder; name the one with the official files, or `hub`", file=data)
    wanted = f"{part}/{task.config}/*.txt" if task.suite == "race" else f"{task.title}/{task.files[part][0]}"
    raise BortError(f"holds no {part} data of {task.title}: there must be {wanted}", file=data)


def is_labelled(rows: list[CastRow]) -> bool:
    """Whether all rows have labels; those of hidden test data have none."""
    return all(row.example.label is not None for row in rows)


def count_units(rows: list[CastRow], task: SuiteTask) -> int:
    """Number of official rows, in the same units as `SuiteTask.counts`."""
    return len({row.idx for row in rows}) if task.shape == "record" else len(rows)


def _folders(task: SuiteTask, data: Path) -> list[Path]:
    """Possible folders of a task: within a folder of all suites, within the suite's folder, or the given folder."""
    suite = SUITES[task.suite]
    parents = [data, *(data / name for name in (task.suite, suite))]
    if task.suite == "race":
        return parents
    return [parent / name for parent in parents for name in _folder_names(task)] + [data]


def _folder_names(task: SuiteTask) -> tuple[str, ...]:
    """Possible names of the task's own folder."""
    more = (each for name in task.folders for each in (name, name.lower()))
    return task.title, task.title.lower(), task.name, *more


def _find(task: SuiteTask, data: Path, part: Part) -> Path | None:
    """The file of a part, or for RACE its folder."""
    names = [f"{part}/{task.config}"] if task.suite == "race" else task.files.get(part, ())
    # GLUE and SuperGLUE both have a folder RTE; the names of its files distinguish them.
    files = (place / name for place in _folders(task, data) for name in names)
    return next((file for file in files if file.exists() and not _is_of_another(task, data, file)), None)


def _is_of_another(task: SuiteTask, data: Path, file: Path) -> bool:
    """Whether a file is the test data of the task whose model predicts this one, and which `data` is the folder of."""
    direct = file.parent == data and data.absolute().name not in _folder_names(task)
    return bool(task.predicted_by) and file.stem == "test" and direct


def _local(task: SuiteTask, data: Path, part: Part) -> Iterator[Record]:
    require_part(task, data, part)
    found = _find(task, data, part)
    assert found is not None
    if task.suite == "race":
        return _race(found)
    if found.suffix == ".jsonl":
        return _lines(task, found, part, "jsonl")
    return _lines(task, found, part, "tsv")


def _lines(task: SuiteTask, file: Path, part: Part, kind: Any) -> Iterator[Record]:
    header = task.headless if task.headless and part != "test" else None
    torn: list[int] = []
    number = undecided = 0
    for line, row in numbered_rows(file, kind, str(file), required=(), text="", header=header, lenient=task.torn):
        if isinstance(line, BortError):
            torn.append(line.line or 0)
            continue
        if task.undecided and row.get(task.label[0]) == task.undecided:
            undecided += 1
        else:
            yield Record(row, str(file), line, number)
        number += 1
    if torn:
        places = ", ".join(map(str, torn[:5])) + (", …" if len(torn) > 5 else "")
        _say(task, f"{len(torn):,} torn rows of {part} data are left out (lines {places})")
    if undecided:
        _say(task, f"{undecided:,} rows of {part} data without an agreed label are left out")


def _race(folder: Path) -> Iterator[Record]:
    """Yield the questions of a folder that has one passage per file."""
    files = sorted(folder.glob("*.txt"), key=lambda file: (len(file.stem), file.stem))
    number = 0
    for file in files:
        try:
            passage = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            line = getattr(error, "lineno", 1)
            raise BortError(f"must be one JSON object ({error})", file=file, line=line) from None
        where = Record(passage if isinstance(passage, dict) else {}, str(file), 1, number)
        if not isinstance(passage, dict):
            raise where.refuse("must be one JSON object", "id", passage)
        article, questions, options = where.text("article"), where.get("questions"), where.get("options")
        answers = passage.get("answers")
        lists = {"questions": questions, "options": options} | ({} if answers is None else {"answers": answers})
        for name, value in lists.items():
            if not isinstance(value, list) or len(value) != len(questions):
                raise where.refuse("must be a list with one item a question", name, value)
        for place, question in enumerate(questions):
            row = {"example_id": str(passage.get("id", file.name)), "place": place, "article": article}
            row |= {"question": question, "options": options[place]}
            row |= {} if answers is None else {"answer": answers[place]}
            yield Record(row, str(file), 1, number)
            number += 1


def _hub(task: SuiteTask, part: Part) -> Iterator[Record]:
    source = f"{HUB[task.suite]}@{task.config}:{task.split[part]}"
    places: dict[str, int] = {}
    for number, (_, row) in enumerate(numbered_rows(source, "hub", source, required=(), text=""), start=1):
        if task.suite == "race":
            passage = str(row.get("example_id"))
            row["place"] = places[passage] = places.get(passage, -1) + 1
        yield Record(row, source, number, number - 1)


def say_what_is_odd(rows: list[CastRow], task: SuiteTask, part: Part) -> None:
    """Print a line if texts are blank, and if the number of rows is not the official one."""
    blank = sum(not row.example.text or row.example.text_b == "" for row in rows)
    if blank:
        _say(task, f"{blank:,} rows of {part} data have a blank text")
    found, official = count_units(rows, task), task.counts[part]
    if found != official:
        _say(task, f"{found:,} rows of {part} data; officially there are {official:,}")


def _say(task: SuiteTask, what: str) -> None:
    say(f"{task.title}: {what}")
