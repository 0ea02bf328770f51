"""The trial of a candidate: what is sent to wherever trials run."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bort.files import read_folder, write_folder
from bort.model.checkpoints import save
from bort.ose.algorithm import Evaluation
from bort.ose.arguments import ExtractArguments
from bort.ose.plan import Costs
from bort.ose.short_training import Surrogate
from bort.ose.space import Shape

LEAST_ERROR = 1e-6


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate(Evaluation):
    """A shape's trial, and its checkpoint's files by name where the trial could not write them."""

    shape: Shape
    files: dict[str, bytes]


@dataclass
class Training:
    """Trains a candidate once with each learning rate, keeps the better weights, and tells its error.

    Args:
        arguments: Of the run.
        costs: Make configurations of shapes.
        tokenizer: Is saved with the weights.
        surrogate: Trains.
        entropy: Of the teacher's outputs, in nats.
        folder: For checkpoints, one folder a shape.
        sees_folder: Whether trials can write there.
        on_step: Told of the shape, the step and the loss, in this process.
    """

    arguments: ExtractArguments
    costs: Costs
    tokenizer: PreTrainedTokenizerFast
    surrogate: Surrogate
    entropy: float
    folder: Path
    sees_folder: bool = True
    on_step: Callable[[Shape, int, float], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which has no terminal of ours."""
        return self.__dict__ | {"on_step": None}

    def __call__(self, shape: Shape) -> TrainedCandidate:
        """The trial of a shape."""
        began = time.monotonic()
        config = self.costs.config(shape, self.tokenizer.pad_token_id)
        told: list[dict[str, Any]] = []
        best, error = None, math.nan
        for rate in self.arguments.learning_rates:
            trained = self.surrogate.train(config, rate, lambda step, loss: self._step(shape, step, loss))
            found = self._error(trained.cross_entropy)
            told.append(
                {"learning_rate": rate, "error": told_error(found), "steps": trained.steps, "seconds": trained.seconds}
            )
            if math.isfinite(found) and not found >= error:
                best, error = trained.model, found
        files = {} if best is None else self._keep(best, shape)
        tokens = self.arguments.rows_per_step * self.arguments.row_length * sum(one["steps"] for one in told)
        about = {"trials": told, "seconds": round(time.monotonic() - began, 2), "tokens": tokens}
        return TrainedCandidate(error, about, shape=shape, files=files)

    def receive(self, trained: TrainedCandidate) -> Evaluation:
        """Write what a trial elsewhere could not."""
        if trained.files:
            write_folder(self.weights(trained.shape), trained.files)
        return Evaluation(trained.error, trained.about)

    def weights(self, shape: Shape) -> Path:
        """The checkpoint of a shape."""
        return self.folder / shape.name

    def _keep(self, model: Any, shape: Shape) -> dict[str, bytes]:
        if self.sees_folder:
            save(model, self.tokenizer, self.weights(shape))
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            save(model, self.tokenizer, Path(scratch) / shape.name)
            return read_folder(Path(scratch) / shape.name)

    def _error(self, cross_entropy: float) -> float:
        if self.arguments.error == "kl":
            # Half-precision outputs and draws may put a perfect student a trifle below its teacher's entropy.
            return max(cross_entropy - self.entropy, LEAST_ERROR) if math.isfinite(cross_entropy) else math.nan
        return cross_entropy

    def _step(self, shape: Shape, step: int, loss: float) -> None:
        if self.on_step is not None:
            self.on_step(shape, step, loss)


def told_error(error: float) -> float | None:
    """An error for JSON, which has no NaN."""
    return error if math.isfinite(error) else None
