"""A command as the teacher, run on batches, once per text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bort.agora.answer_cache import AnswerCache, digest
from bort.agora.answers import WrongAnswerError, answer_row, parsed_line
from bort.agora.command_lines import LineCommand
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.progress import bar
from bort.tasks.task import Says, Task

TIMEOUT_SECONDS = 3600.0
"""Default timeout of a command for one batch."""
_NUMBER_BYTES = 32
"""Maximum size of a probability in an answer, with what separates it from others."""


class CommandTeacher:
    """A command that reads one JSON object with `text` (and `text_b`) per line, and writes one answer per line.

    An answer is a plain label or number, a JSON string, a JSON object of label probabilities, a JSON list of labels in
    a multilabel task, or a blank line if the command does not know.

    Args:
        command: The command.
        task: The task.
        batch: Maximum number of texts per run of the command.
        folder: Folder of the answer cache, which is written after each batch.

    Raises:
        BortError: The command line names no program, or the folder cannot be used.
    """

    def __init__(self, command: LineCommand, task: Task, batch: int, folder: Path) -> None:
        command.words()
        longest = sum(len(json.dumps(name)) + _NUMBER_BYTES for name in task.names)
        self._command = replace(command, row_bytes=command.row_bytes + longest)
        self.name, self._task, self._batch = command.line, task, batch
        asked_of = {"command": command.line, "kind": task.kind, "labels": task.names}
        self._cache = AnswerCache(folder, asked_of)

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`.

        Raises:
            BortError: The command fails, or writes an invalid answer.
        """
        rows = {digest(row): row for row in map(asked_row, examples)}
        with self._cache.alone():
            known = self._cache.known(rows)
            new = [name for name in rows if name not in known]
            with bar(f"{self.name} answers", len(new)) as shown:
                for start in range(0, len(new), self._batch):
                    names = new[start : start + self._batch]
                    answers = self._ask([rows[name] for name in names])
                    known |= dict(zip(names, answers, strict=True))
                    self._cache.keep({name: known[name] for name in names})
                    shown.update(start + len(names))
        says = [answer_row(known[digest(asked_row(example))], self._task) for example in examples]
        return np.array(says, dtype=np.float64).reshape(len(examples), self._task.outputs)

    def _ask(self, rows: Sequence[dict[str, str]]) -> list[Any]:
        answers = []
        for place, line in enumerate(self._command(rows), 1):
            try:
                answers.append(parsed_line(line, self._task))
                answer_row(answers[-1], self._task)
            except WrongAnswerError as error:
                rule = f"line {place} of its output: {error}"
                raise BortError(rule, setting=self._command.setting, value=line) from None
        return answers


def asked_row(example: Example) -> dict[str, str]:
    """Return what a command reads for an example."""
    return {"text": example.text} | ({} if example.text_b is None else {"text_b": example.text_b})
