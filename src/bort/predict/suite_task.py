"""Evaluate a fine-tuned model on a suite's task: official scores, and the submission file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.predict.predictor import Predictor
from bort.progress import bar, say
from bort.tasks.metrics import Score
from bort.tasks.suites.casting import CastRow
from bort.tasks.suites.reading import is_labelled, read_part, say_what_is_odd
from bort.tasks.suites.scoring import aligned, official_scores
from bort.tasks.suites.submission import write
from bort.tasks.suites.task_entry import Cast, Part, SuiteTask

_WINDOW_ROWS = 1024


class SuitePredictor:
    """A model for a suite's task.

    Args:
        model: A folder or a hub name.
        task: The task.
        data: The folder with the suite's official files, or "hub".
        cast: How rows are cast; auto: as in the model's fine-tuning.

    Raises:
        BortError: The model cannot be loaded, or does not fit the task.
    """

    def __init__(self, model: str, task: SuiteTask, data: str, cast: Literal["auto"] | Cast = "auto") -> None:
        self.model, self.task, self.data = model, task, data
        self.predictor = Predictor(model)
        self.cast: Cast = (self.predictor.cast or "improved") if cast == "auto" else cast
        aligned(task, self.predictor.task, np.zeros((1, self.predictor.task.outputs), np.float32), model)

    def scores(self, resamples: int) -> tuple[Part, int, dict[str, Score]]:
        """Score the development data, or a diagnostic's labelled test data.

        Args:
            resamples: Number of bootstrap resamples; 0 gives no intervals.

        Returns:
            The part, its number of rows, and the official metrics.

        Raises:
            BortError: There are no labels, or the data are invalid.
        """
        part: Part = "dev" if "dev" in self.task.counts else "test"
        rows = self._read(part)
        if not is_labelled(rows):
            rule = f"the labels of {self.task.title} are hidden: --submit FOLDER writes the answers for the leaderboard"
            raise BortError(rule, file=rows[0].example.source)
        return part, len(rows), official_scores(self.task, rows, self.logits(rows), resamples=resamples)

    def is_scorable(self) -> bool:
        """Whether there are labels to score against; a diagnostic may have none."""
        return "dev" in self.task.counts or is_labelled(self._read("test"))

    def submit(self, folder: str | Path) -> Path:
        """Write the predictions on the test data in the leaderboard's format; returns the file.

        Raises:
            BortError: There are no test data, or they are invalid.
        """
        rows = self._read("test")
        say_what_is_odd(rows, self.task, "test")
        return write(self.task, rows, self.logits(rows), folder)

    def _read(self, part: Part) -> list[CastRow]:
        return read_part(self.task, self.data, part, cast=self.cast)

    def logits(self, rows: Sequence[CastRow]) -> NDArray[np.float32]:
        """Logits of the model. *Shape:* (rows, labels), in the order of the task's labels."""
        pieces: list[Any] = []
        with bar(f"predicting {self.task.title}", len(rows)) as shown:
            for start in range(0, len(rows), _WINDOW_ROWS):
                pieces.append(self.predictor.logits([row.example for row in rows[start : start + _WINDOW_ROWS]]))
                shown.update(min(start + _WINDOW_ROWS, len(rows)))
        if self.predictor.cut:
            cut, longest = self.predictor.cut, self.predictor.max_length
            say(f"{self.task.title}: texts longer than {longest} tokens, which were cut: {cut:,}")
            self.predictor.cut = 0
        return aligned(self.task, self.predictor.task, np.concatenate(pieces))


def model_of(models: str | Path, task: SuiteTask) -> str | None:
    """The model of a task in a folder of `bort finetune --task glue`, which has one per task; None if it is missing."""
    folder = Path(models) / (task.predicted_by or task.name)
    return str(folder) if (folder / "config.json").is_file() else None
