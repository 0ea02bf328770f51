"""A trial on texts: what is sent to wherever trials run."""

from __future__ import annotations

import contextlib
import math
import shutil
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

_NOT_FINITE = "the model's outputs must be finite numbers, and they are not; a lower learning rate may help"
_GROWN_TOKENS = 400_000
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
        given: The targets of the training data that were given.
        grown_epochs: Least passes over training data that have grown; None: by their number.
        folder: For checkpoints.
        sees_folder: Whether trials can read and write there.
        on_progress: Told of the slot, the combination, the share of its longest possible run, and a few words, in this
            process.
        vectors: A teacher's vectors of texts, which are learned beside the labels, by text and second text. *Shape:*
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
        """For another process, which has no terminal of ours."""
        return self.__dict__ | {"on_progress": None}

    @property
    def learner(self) -> Learner[TrainedWeights]:
        """For the loop."""
        return Learner(self.fit, self.predict, self.right, self.score, self.loss)

    def fit(self, theta: Theta, train: Sequence[Point], slot: Slot) -> TrainedWeights:
        """Fine-tune the encoder with one combination.

        Raises:
            DivergedError: No evaluation on the way gave finite numbers.
        """
        began, labelled = time.monotonic(), self._labelled(train, with_vectors=len(train) > len(self.given))
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
        """Fine-tune for a number of passes, with nothing held back that would stop it or choose a step.

        All slots begin with the same weights, and each takes the data in an order of its own.

        Raises:
            DivergedError: The model's outputs are not finite numbers.
        """
        began = time.monotonic()
        with self._checkpoints(slot) as folder:
            model, result = self.fitter.fit(
                HyperParameters(**{**theta, "seed": theta["seed"] + slot.place}),
                self._labelled(train, with_vectors=with_vectors),
                None,
                folder=folder,
                start=theta["seed"],
                max_epochs=epochs,
                on_progress=lambda share, note: self._progress(slot, theta, share, note),
            )
        about = {"evaluations": [], "best_step": result.steps, "steps": result.steps}
        return TrainedWeights(self.fitter.weights(model), about=about | {"seconds": round(time.monotonic() - began, 2)})

    def _labelled(self, points: Sequence[Point], *, with_vectors: bool) -> Labelled:
        examples = [point.x for point in points]
        labelled = self.fitter.labelled(examples, self.fitter.task.collected([point.y for point in points]))
        if self.vectors and with_vectors:
            nothing = np.zeros_like(next(iter(self.vectors.values())))  # teaches nothing
            vectors = np.stack([self.vectors.get((e.text, e.text_b), nothing) for e in examples])
            labelled = replace(labelled, vectors=vectors)
        return labelled

    def logits(self, model: TrainedWeights, examples: Sequence[Example]) -> Any:
        """What a model says of examples, in the labels' unit. *Shape:* (examples, outputs).

        Raises:
            DivergedError: Not finite numbers.
        """
        logits = self.fitter.logits(self.fitter.open(model.read()), self.fitter.tokens(examples))
        if not np.isfinite(logits).all():
            raise DivergedError(_NOT_FINITE)
        return logits

    def says(self, model: TrainedWeights, examples: Sequence[Example]) -> Says:
        """What a model says of examples, as a teacher would. *Shape:* (examples, outputs)."""
        return self.fitter.task.says(self.logits(model, examples))

    def predict(self, model: TrainedWeights, examples: Sequence[Example]) -> list[Any]:
        """What a model says of each example, as a list."""
        rows: list[Any] = self.says(model, examples).round(5).tolist()
        return rows

    def right(self, answers: Sequence[Any], truth: Sequence[Any]) -> list[bool]:
        """Whether the likeliest class is the right one, all labels are, or the value is near enough."""
        task, said = self.fitter.task, np.array(answers, np.float32)
        wanted = task.collected(truth)
        enough = 0.0 if task.names else _NEAR_ENOUGH * (float(np.std(self.given)) or 1.0)
        found: list[bool] = (task.fitted(said, wanted).errors(said, wanted) <= enough).tolist()
        return found

    def score(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """The task's metric."""
        task = self.fitter.task
        return task.score(np.array(answers, np.float32), task.collected(truth), resamples=0)[task.metric].value

    def loss(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """The log-loss, or the mean squared error, in full precision, so that equals are seldom."""
        task = self.fitter.task
        return loss(task, np.array(answers, np.float64), task.collected(truth))

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

    def _epochs(self, train: Labelled) -> int:
        """Passes over training data: as many steps as over those given, but at least `grown_epochs` passes."""
        size, most, given = len(train), self.fitter.limits.max_epochs, len(self.given)
        least = self.grown_epochs or usual_passes(sum(train.encoded.lengths), tokens=_GROWN_TOKENS, least=2, most=8)
        return most if size <= given else min(most, max(least, round(most * given / size)))

    def _progress(self, slot: Slot, theta: Theta, share: float, note: str) -> None:
        if self.on_progress is not None:
            self.on_progress(slot, theta, share, note)


def usual_passes(size: int, *, tokens: int, least: int, most: int) -> int:
    """So many passes over data of `size` tokens that a training sees about `tokens`, within bounds."""
    return min(most, max(least, round(tokens / max(size, 1))))


def slot_name(slot: Slot) -> str:
    """Name of a slot's files."""
    return f"{slot.round:02d}-{slot.place:03d}"
