"""A trial on texts: what is sent to wherever trials run."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bort.agora.loop import Learner
from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Point, Slot
from bort.data.tables.examples import Example
from bort.finetuning.fitter import Fitter
from bort.finetuning.hyper_parameters import HyperParameters
from bort.finetuning.train_once import Labelled

_NOT_FINITE = "the model's outputs must be finite numbers, and they are not; a lower learning rate may help"
_NEAR_ENOUGH = 0.5
"""A regression is cast to right and wrong: off by less than so many standard deviations of the training labels."""


@dataclass(frozen=True)
class TrainedWeights:
    """A fine-tuned model: its weights, and how it came to them.

    Attributes:
        weights: In the safetensors format, as they were trained; empty once they are in `file`.
        file: Where the journal put them.
        about: `evaluations` (steps and development scores), `best_step`, `steps`, and `seconds` of the training.
    """

    weights: bytes = b""
    file: Path = Path()
    about: dict[str, Any] = field(default_factory=dict)

    def read(self) -> bytes:
        """The weights."""
        return self.weights or self.file.read_bytes()


@dataclass
class TextLearner:
    """Fits an encoder to texts, and answers with what came out.

    Args:
        fitter: Fits.
        dev: The development data, which choose the step to keep.
        given: The targets of the training data that were given. *Shape:* (examples,).
        grown_epochs: Least passes over training data that have grown.
        folder: For checkpoints.
        sees_folder: Whether trials can read and write there.
        on_progress: Told of the slot, the combination, the share of its longest possible run, and a few words, in this
            process.
    """

    fitter: Fitter
    dev: Labelled
    given: Any
    grown_epochs: int
    folder: Path
    sees_folder: bool = True
    on_progress: Callable[[Slot, Theta, float, str], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which has no terminal of ours."""
        return self.__dict__ | {"on_progress": None}

    @property
    def learner(self) -> Learner[TrainedWeights]:
        """For the loop."""
        return Learner(self.fit, self.predict, self.right, self.score)

    def fit(self, theta: Theta, train: Sequence[Point], slot: Slot) -> TrainedWeights:
        """Fine-tune the encoder with one combination.

        Raises:
            DivergedError: No evaluation on the way gave finite numbers.
        """
        began = time.monotonic()
        with self._checkpoints(slot) as folder:
            model, result = self.fitter.fit(
                HyperParameters(**theta),
                self.fitter.labelled([point.x for point in train], self._targets([point.y for point in train])),
                self.dev,
                folder=folder,
                max_epochs=self._epochs(len(train)),
                on_progress=lambda share, note: self._progress(slot, theta, share, note),
            )
        if not math.isfinite(result.score):
            raise DivergedError(_NOT_FINITE, setting="learning_rates", value=theta["learning_rate"])
        about = {"evaluations": result.evaluations, "best_step": result.step, "steps": result.steps}
        return TrainedWeights(self.fitter.weights(model), about=about | {"seconds": round(time.monotonic() - began, 2)})

    def logits(self, model: TrainedWeights, examples: Sequence[Example]) -> Any:
        """What a model says of examples, in the labels' unit. *Shape:* (examples, outputs).

        Raises:
            DivergedError: Not finite numbers.
        """
        logits = self.fitter.logits(self.fitter.open(model.read()), self.fitter.tokens(examples))
        if not np.isfinite(logits).all():
            raise DivergedError(_NOT_FINITE)
        return logits

    def predict(self, model: TrainedWeights, examples: Sequence[Example]) -> list[Any]:
        """Classes, or values."""
        decided: list[Any] = self.fitter.task.decide(self.logits(model, examples)).tolist()
        return decided

    def right(self, answer: Any, truth: Any) -> bool:
        """Whether an answer is the class, or near enough to the value."""
        if self.fitter.task.names:
            return bool(answer == truth)
        return bool(abs(answer - truth) <= _NEAR_ENOUGH * (float(np.std(self.given)) or 1.0))

    def score(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """The task's metric."""
        task = self.fitter.task
        dtype: Any = np.int64 if task.names else np.float32
        return task.judge(np.array(answers, dtype), np.array(truth, dtype), resamples=0)[task.metric].value

    @contextlib.contextmanager
    def _checkpoints(self, slot: Slot) -> Iterator[Path]:
        """A folder of the slot's own name, so that an interrupted trial finds its checkpoints again."""
        if not self.sees_folder:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
            return
        folder = self.folder / slot_name(slot)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)  # not after an error: the trial goes on from there when it runs again

    def _epochs(self, size: int) -> int:
        """Passes over so many training data: as many steps as over those given, but at least `grown_epochs` passes."""
        most, given = self.fitter.limits.max_epochs, len(self.given)
        return most if size <= given else min(most, max(self.grown_epochs, round(most * given / size)))

    def _targets(self, labels: Sequence[Any]) -> Any:
        """Classes, or distributions where there are any, or values."""
        task = self.fitter.task
        if task.kind == "regression":
            return np.array(labels, dtype=np.float32)
        if not any(isinstance(label, tuple) for label in labels):
            return np.array(labels, dtype=np.int64)
        certain = np.eye(task.outputs, dtype=np.float32)
        return np.array([y if isinstance(y, tuple) else certain[y] for y in labels], dtype=np.float32)

    def _progress(self, slot: Slot, theta: Theta, share: float, note: str) -> None:
        if self.on_progress is not None:
            self.on_progress(slot, theta, share, note)


def slot_name(slot: Slot) -> str:
    """Name of a slot's files."""
    return f"{slot.round:02d}-{slot.place:03d}"
