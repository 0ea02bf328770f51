"""The trial of a candidate, which is sent to the workers."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bort.files import read_folder, write_folder
from bort.model.checkpoints import save
from bort.ose.algorithm import Evaluation
from bort.ose.short_training import Lesson, Training, train, untrained_error
from bort.ose.space import Shape


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate(Evaluation):
    """The result of a shape's trial, with its checkpoint's files by name if the trial could not write them."""

    shape: Shape
    files: dict[str, bytes]


@dataclass(frozen=True)
class CandidateTrial:
    """Trains a candidate once with each learning rate, keeps the best weights, and returns its error.

    Args:
        lesson: What candidates learn.
        training: How they are trained.
        learning_rates: Peak learning rates to try; the lowest error counts.
        tokens_per_step: Maximum number of tokens per step, to report the cost of a search.
        folder: Folder for checkpoints, one subfolder per shape; None keeps none.
        sees_folder: Whether trials can write to `folder`.
        on_step: Called with the shape, the step and the loss, in this process only.
    """

    lesson: Lesson
    training: Training
    learning_rates: Sequence[float]
    tokens_per_step: int
    folder: Path | None
    sees_folder: bool = True
    on_step: Callable[[Shape, int, float], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, which cannot write to this terminal."""
        return self.__dict__ | {"on_step": None}

    def again(self) -> CandidateTrial:
        """The same trial with another seed, to measure the noise of the error; it keeps no weights."""
        return replace(self, training=self.training.again(), folder=None)

    def __call__(self, shape: Shape) -> TrainedCandidate:
        """Run the trial of a shape."""
        began = time.monotonic()
        told: list[dict[str, Any]] = []
        best, error = None, math.nan
        for rate in self.learning_rates:
            trained = train(self.lesson, shape, self.training, rate, lambda step, loss: self._step(shape, step, loss))
            told.append(
                {
                    "learning_rate": rate,
                    "error": told_error(trained.error),
                    "steps": trained.steps,
                    "seconds": trained.seconds,
                }
            )
            if math.isfinite(trained.error) and not trained.error >= error:
                best, error = trained.model, trained.error
        about: dict[str, Any] = {"trials": told}
        if self.lesson.starts_trained and self.folder is not None:
            about["untrained_error"] = told_error(untrained_error(self.lesson, shape, self.training.seed))
        about["seconds"] = round(time.monotonic() - began, 2)
        about["tokens"] = self.tokens_per_step * sum(one["steps"] for one in told)
        return TrainedCandidate(error, about, shape=shape, files={} if best is None else self._keep(best, shape))

    def receive(self, trained: TrainedCandidate) -> Evaluation:
        """Write the checkpoint that a remote trial could not write."""
        if trained.files:
            write_folder(self._checkpoint(trained.shape), trained.files)
        return Evaluation(trained.error, trained.about)

    def _checkpoint(self, shape: Shape) -> Path:
        assert self.folder is not None
        return self.folder / shape.name

    def _keep(self, model: Any, shape: Shape) -> dict[str, bytes]:
        tokenizer = self.lesson.tokenizer(shape)
        if self.folder is None:
            return {}
        if self.sees_folder:
            save(model, tokenizer, self._checkpoint(shape))
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            save(model, tokenizer, Path(scratch) / shape.name)
            return read_folder(Path(scratch) / shape.name)

    def _step(self, shape: Shape, step: int, loss: float) -> None:
        if self.on_step is not None:
            self.on_step(shape, step, loss)


def told_error(error: float) -> float | None:
    """An error as a JSON value: None if it is not finite."""
    return error if math.isfinite(error) else None
