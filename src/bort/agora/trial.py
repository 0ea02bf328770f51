"""A trial on texts, which is sent to wherever trials run."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.loop import Learner
from bort.agora.pooled_labels import loss
from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Point, Slot
from bort.data.tables.examples import Example
from bort.finetuning.fitter import Fitter
from bort.finetuning.hyper_parameters import HyperParameters
from bort.finetuning.train_once import Labelled
from bort.tasks.task import Says
from bort.training import checkpoints

_NOT_FINITE = "the model's outputs must be finite numbers, and they are not; a lower learning rate may help"
_GROWN_TOKENS = 400_000
_DIGITS = 7
"""Significant digits of a predicted value, whatever its unit: about as many as single precision holds."""
_NEAR_ENOUGH = 0.5
"""A predicted value counts as right if it is off by at most this many standard deviations of the training labels."""


@dataclass(frozen=True)
class TrainedWeights:
    """The weights of a fine-tuned model, and a record of its training.

    Attributes:
        weights: In the safetensors format, as trained; empty once they are in `file`.
        file: Where the journal stored them.
        about: `evaluations` (steps and development scores), `best_step`, `steps`, and `seconds` of the training.
    """

    weights: bytes = b""
    file: Path = Path()
    about: dict[str, Any] = field(default_factory=dict)

    def read(self) -> bytes:
        """Return the weights."""
        return self.weights or self.file.read_bytes()


@dataclass
class TextLearner:
    """Fine-tunes an encoder on texts, and predicts with the result.

    Args:
        fitter: Fine-tunes the encoder.
        dev: The development data, which choose the step to keep.
        given: Targets of the given training data.
        grown_epochs: Minimum number of epochs over grown training data; None: according to their number of tokens, but
            at most as many as over the given data.
        folder: Folder for checkpoints.
        sees_folder: Whether trials can read and write there.
        on_progress: Called in this process with the slot, the combination, the share of its longest possible run, and a
            short note.
        vectors: A teacher's vectors, which are learned in addition to the labels, by text and second text. *Shape:*
            (D,) each.
    """

    fitter: Fitter
    dev: Labelled
    given: Any
    grown_epochs: int | None
    folder: Path
    sees_folder: bool = True
    on_progress: Callable[[Slot, Theta, float, str], None] | None = None
    vectors: Mapping[tuple[str, str | None], NDArray[np.float32]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the callback, which only works in this process."""
        return self.__dict__ | {"on_progress": None}

    @property
    def learner(self) -> Learner[TrainedWeights]:
        """The functions for the loop."""
        return Learner(self.fit, self.predict, self.right, self.score, self.loss)

    def fit(self, theta: Theta, train: Sequence[Point], slot: Slot) -> TrainedWeights:
        """Fine-tune the encoder with one combination.

        Raises:
            DivergedError: The model's outputs were not finite in any evaluation.
        """
        began, labelled = time.monotonic(), self.labelled(train, with_vectors=len(train) > len(self.given))
        with self._checkpoints(slot) as folder:
            model, result = self.fitter.fit(
                HyperParameters(**theta),
                labelled,
                self.dev,
                folder=folder,
                max_epochs=self._epochs(labelled),
                on_progress=lambda share, note: self._progress(slot, theta, share, note),
            )
        if not math.isfinite(result.score):
            raise DivergedError(_NOT_FINITE, setting="learning_rates", value=theta["learning_rate"])
        about = {"evaluations": result.evaluations, "best_step": result.step, "steps": result.steps}
        return TrainedWeights(self.fitter.weights(model), about=about | {"seconds": round(time.monotonic() - began, 2)})

    def refit(
        self, theta: Theta, train: Sequence[Point], slot: Slot, *, epochs: int, with_vectors: bool
    ) -> TrainedWeights:
        """Fine-tune for a fixed number of epochs, without held-out data for early stopping.

        All slots start from the same initial weights, each with its own data order. Outputs may not be finite.
        """
        began = time.monotonic()
        with self._checkpoints(slot) as folder:
            model, result = self.fitter.fit(
                HyperParameters(**{**theta, "seed": theta["seed"] + slot.place}),
                self.labelled(train, with_vectors=with_vectors),
                None,
                folder=folder,
                start=theta["seed"],
                max_epochs=epochs,
                on_progress=lambda share, note: self._progress(slot, theta, share, note),
            )
        about = {"evaluations": [], "best_step": result.steps, "steps": result.steps}
        return TrainedWeights(self.fitter.weights(model), about=about | {"seconds": round(time.monotonic() - began, 2)})

    def labelled(self, points: Sequence[Point], *, with_vectors: bool) -> Labelled:
        """Tokenise points, and add the vectors of their texts if wanted."""
        examples = [point.x for point in points]
        labelled = self.fitter.labelled(examples, self.fitter.task.collected([point.y for point in points]))
        if self.vectors and with_vectors:
            nothing = np.zeros_like(next(iter(self.vectors.values())))  # a zero vector gives no gradient
            vectors = np.stack([self.vectors.get((e.text, e.text_b), nothing) for e in examples])
            labelled = replace(labelled, vectors=vectors)
        return labelled

    def logits(self, model: TrainedWeights, examples: Sequence[Example]) -> Any:
        """Return a model's outputs, values in the labels' unit. *Shape:* (examples, outputs).

        Raises:
            DivergedError: The outputs are not finite.
        """
        logits = self.fitter.logits(self.fitter.open(model.read()), self.fitter.tokens(examples))
        if not np.isfinite(logits).all():
            raise DivergedError(_NOT_FINITE)
        return logits

    def says(self, model: TrainedWeights, examples: Sequence[Example]) -> Says:
        """Return a model's predictions in the format of a teacher. *Shape:* (examples, outputs)."""
        return self.fitter.task.says(self.logits(model, examples))

    def predict(self, model: TrainedWeights, examples: Sequence[Example]) -> list[Any]:
        """Return the rounded predictions of a model, as a list per example: values to significant digits."""
        says = self.says(model, examples)
        if not self.fitter.task.names:
            return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in says.tolist()]
        rows: list[Any] = says.round(5).tolist()
        return rows

    def right(self, answers: Sequence[Any], truth: Sequence[Any]) -> list[bool]:
        """Return whether the most likely class is right, all labels are right, or the value is near enough."""
        task, said = self.fitter.task, np.array(answers, np.float32)
        wanted = task.collected(truth)
        enough = 0.0 if task.names else _NEAR_ENOUGH * (float(np.std(self.given, dtype=np.float64)) or 1.0)
        found: list[bool] = (task.fitted(said, wanted).errors(said, wanted) <= enough).tolist()
        return found

    def score(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """Return the task's metric."""
        task = self.fitter.task
        return task.score(np.array(answers, np.float32), task.collected(truth), resamples=0)[task.metric].value

    def loss(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """Return the log-loss, or the mean squared error, in double precision, so that ties are rare."""
        task = self.fitter.task
        return loss(task, np.array(answers, np.float64), task.collected(truth))

    @contextlib.contextmanager
    def _checkpoints(self, slot: Slot) -> Iterator[Path]:
        """Provide a folder with the slot's name, so that an interrupted trial finds its checkpoints again."""
        if not self.sees_folder:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
            return
        folder = self.folder / slot_name(slot)
        yield folder
        checkpoints.discard(folder)  # kept after an error, so that a retry continues from there

    def _epochs(self, train: Labelled) -> int:
        """Return the number of epochs: as many steps as over the given data, but at least `grown_epochs` epochs."""
        size, most, given = len(train), self.fitter.limits.max_epochs, len(self.given)
        usual = usual_passes(sum(train.encoded.lengths), tokens=_GROWN_TOKENS, least=2, most=8)
        least = self.grown_epochs or min(most, usual)
        return most if size <= given else max(least, round(most * given / size))

    def _progress(self, slot: Slot, theta: Theta, share: float, note: str) -> None:
        if self.on_progress is not None:
            self.on_progress(slot, theta, share, note)


def usual_passes(size: int, *, tokens: int, least: int, most: int) -> int:
    """Return the number of epochs, within bounds, in which a training on `size` tokens sees about `tokens`."""
    return min(most, max(least, round(tokens / max(size, 1))))


def slot_name(slot: Slot) -> str:
    """Return the name of a slot's files."""
    return f"{slot.round:02d}-{slot.place:03d}"
