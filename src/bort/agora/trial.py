"""The trial of a combination: what is sent to wherever trials run."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bort.agora.loop import Fitted, Point, Trial
from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fitter import Fitter, Kept, usual_epochs
from bort.finetuning.train_once import HyperParameters, Labelled
from bort.tasks.task import Task

_NEAR_ENOUGH = 0.5
"""A regression is cast to right and wrong: off by less than so many standard deviations of the training labels."""


@dataclass
class Fitting:
    """Fits combinations, and answers the development data with what came out. Its models are files, or their content.

    Args:
        arguments: Of the run.
        fitter: Fits.
        task: What is learned.
        dev: The development data.
        given: The targets of the training data that were given. *Shape:* (examples,).
        folder: For weights and checkpoints.
        sees_folder: Whether trials can read and write there.
        round: Counted from 1.
        on_progress: Told of the combination, the share of its longest possible run, and a few words, in this process.
    """

    arguments: FinetuneArguments
    fitter: Fitter
    task: Task
    dev: Labelled
    given: Any
    folder: Path
    sees_folder: bool = True
    round: int = 1
    on_progress: Callable[[Mapping[str, Any], float, str], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which has no terminal of ours."""
        return self.__dict__ | {"on_progress": None}

    def fit(self, theta: Mapping[str, Any], train: Sequence[Point]) -> Fitted[Any]:
        """A model of a combination."""
        began = time.monotonic()
        with self._checkpoints(theta) as folder:
            model, result = self.fitter.fit(
                HyperParameters(**theta),
                self.fitter.labelled([point.x for point in train], self._targets([point.y for point in train])),
                self.dev,
                folder=folder,
                max_epochs=self._epochs(len(train)),
                on_progress=lambda share, note: self._progress(theta, share, note),
            )
            kept: Kept = self.fitter.kept(model)
            if self.sees_folder:
                kept = self._write(theta, kept)
        return Fitted(kept, {"evaluations": result.evaluations, "seconds": round(time.monotonic() - began, 2)})

    def predict(self, kept: Kept, examples: Sequence[Example]) -> list[Any]:
        """Classes, or values, of the development examples, the only ones that the loop asks about."""
        decisions: list[Any] = self.task.decide(self.fitter.logits(self.fitter.open(kept), self.dev)).tolist()
        return decisions

    def right(self, answer: Any, truth: Any) -> bool:
        """Whether an answer is the class, or near enough to the value."""
        if self.task.names:
            return bool(answer == truth)
        return bool(abs(answer - truth) <= _NEAR_ENOUGH * (float(np.std(self.given)) or 1.0))

    def score(self, answers: Sequence[Any], truth: Sequence[Any]) -> float:
        """The task's metric."""
        dtype: Any = np.int64 if self.task.names else np.float32
        judged = self.task.judge(np.array(answers, dtype), np.array(truth, dtype), resamples=0)
        return judged[self.task.metric].value

    def receive(self, trial: Trial[Any]) -> Trial[Path]:
        """A trial whose model is a file here; one that came as bytes is written."""
        return replace(trial, model=self._write(trial.theta, trial.model)) if isinstance(trial.model, bytes) else trial

    def _write(self, theta: Mapping[str, Any], kept: Any) -> Path:
        file = self._folder(theta).with_suffix(".safetensors")
        with write_aside(file, "wb") as out:
            out.write(kept)
        return file

    def _folder(self, theta: Mapping[str, Any]) -> Path:
        """Of a combination's own name, so that an interrupted trial finds its checkpoints again."""
        name = hashlib.sha256(str(sorted(theta.items())).encode()).hexdigest()[:12]
        return self.folder / f"{self.round:02d}-{name}"

    @contextlib.contextmanager
    def _checkpoints(self, theta: Mapping[str, Any]) -> Iterator[Path]:
        if not self.sees_folder:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
            return
        folder = self._folder(theta)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)  # not after an error: the trial goes on from there when it runs again

    def _epochs(self, size: int) -> int:
        """Passes over so many training data: as many steps as over those given, but at least `grown_epochs` passes."""
        given = len(self.given)
        most = self.arguments.max_epochs or usual_epochs(given)
        return min(most, max(self.arguments.grown_epochs, round(most * given / size)))

    def _targets(self, labels: Sequence[Any]) -> Any:
        """Classes, or distributions where there are any, or values."""
        if self.task.kind == "regression":
            return np.array(labels, dtype=np.float32)
        if not any(isinstance(label, tuple) for label in labels):
            return np.array(labels, dtype=np.int64)
        certain = np.eye(self.task.outputs, dtype=np.float32)
        return np.array([y if isinstance(y, tuple) else certain[y] for y in labels], dtype=np.float32)

    def _progress(self, theta: Mapping[str, Any], share: float, note: str) -> None:
        if self.on_progress is not None:
            self.on_progress(theta, share, note)
