"""Official suite scores of a fine-tuning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from bort.errors import BortError
from bort.finetuning.fitter import Fitter
from bort.predict.encoding import encode
from bort.progress import bar, say
from bort.tasks.metrics import Score
from bort.tasks.suites.casting import CastRow
from bort.tasks.suites.reading import has_part, is_labelled, read_part
from bort.tasks.suites.scoring import Logits, official_scores
from bort.tasks.suites.table import predicted_with
from bort.tasks.suites.task_entry import Cast, Part, SuiteTask


@dataclass(frozen=True)
class SuiteRun:
    """The suite task of a run.

    Args:
        task: The task.
        cast: How its rows were cast.
        data: The folder with the suite's files, or "hub".
        rows: The rows to score by part, in the order of the run's examples.
    """

    task: SuiteTask
    cast: Cast
    data: str
    rows: Mapping[Part, list[CastRow]]

    @property
    def about(self) -> dict[str, str]:
        """Entries about the task for a saved model's config.json."""
        return {"bort_task": self.task.name, "bort_cast": self.cast}

    def judge(self, fitter: Fitter, model: PreTrainedModel, outputs: Mapping[str, Logits]) -> dict[str, Any]:
        """Score the run's parts, and the labelled parts of other tasks that its model predicts (such as MNLI-mm).

        Args:
            fitter: The fitter of the model.
            model: The fitted model.
            outputs: Its outputs for each of the run's parts. *Shape:* (rows, labels).

        Returns:
            For `metrics.json`: `official`, values and intervals by task and part, and `cast`.
        """
        found = {
            self.task.name: {
                part: described(official_scores(self.task, rows, outputs[part])) for part, rows in self.rows.items()
            }
        }
        for other in predicted_with(self.task):
            parts = {}
            for part in other.counts:
                if not has_part(other, self.data, part):
                    continue
                try:
                    rows = read_part(other, self.data, part, cast=self.cast)
                    if is_labelled(rows):
                        parts[part] = self._scores(other, fitter, model, rows)
                except BortError as error:
                    # An error in another task's data must not fail the run.
                    say(f"{other.title} is not scored: {error}")
            found |= {other.name: parts} if parts else {}
        return {"official": found, "cast": self.cast}

    def _scores(
        self, task: SuiteTask, fitter: Fitter, model: PreTrainedModel, rows: list[CastRow]
    ) -> dict[str, dict[str, Any]]:
        pieces = []
        with bar(f"scoring {task.title}", len(rows)) as shown:
            for start in range(0, len(rows), 4096):
                examples = [row.example for row in rows[start : start + 4096]]
                encoded = encode(examples, fitter.tokens.tokenizer, fitter.tokens.max_length)
                pieces.append(fitter.logits(model, encoded))
                shown.update(start + len(examples))
        return described(official_scores(task, rows, np.concatenate(pieces)))


def described(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """Scores in the form of `metrics.json`."""
    return {
        "scores": {name: score.value for name, score in scores.items()},
        "confidence": {name: [score.low, score.high] for name, score in scores.items()},
    }
