"""Regression: one number per text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, Label, encode_values
from bort.errors import BortError
from bort.tasks.metrics import Score, regression_scores
from bort.tasks.task import Outputs, Says, Targets, Task

_LARGEST_VALUE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Regression(Task):
    """One value per text: the model's single output."""

    kind: ClassVar[Kind] = "regression"
    problem_type = "regression"

    def targets(self, examples: Sequence[Example]) -> Targets:
        """See `Task`."""
        values = encode_values(examples)
        for example, value in zip(examples, values, strict=True):
            if abs(value) > _LARGEST_VALUE:
                rule = f"a label must be a number between -{_LARGEST_VALUE:.2g} and {_LARGEST_VALUE:.2g}"
                raise BortError(
                    rule, file=example.source or None, line=example.line, column="label", value=example.label
                )
        return np.asarray(values, dtype=np.float32)

    def decide(self, outputs: Outputs) -> Targets:
        """The values. *Shape:* (examples,)."""
        return outputs[:, 0]

    def labels(self, outputs: Outputs) -> list[Label]:
        """See `Task`."""
        return [float(value) for value in outputs[:, 0]]

    def claims(self, outputs: Outputs, targets: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """None: there are no labels."""
        nothing = np.zeros((len(outputs), 0), dtype=np.bool_)
        return nothing, nothing

    def score(self, outputs: Outputs, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """See `Task`."""
        return self.judge(self.decide(outputs), targets, resamples=resamples)

    def judge(self, decided: Targets, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """Score values as returned by `decide`. *Shape:* (examples,) each."""
        return regression_scores(targets.tolist(), decided.tolist(), resamples=resamples)

    def activate(self, outputs: Outputs) -> Outputs:
        """The values as they are."""
        return outputs

    def says(self, outputs: Outputs) -> Says:
        """The values as they are."""
        return outputs.astype(np.float64)

    def bounded(self, says: Says) -> Says:
        """The values as they are."""
        return says

    def mean(self, opinions: Sequence[Says]) -> Says:
        """See `Task`."""
        return np.asarray(np.mean(opinions, axis=0), dtype=np.float64)

    def combined(self, outputs: Outputs, columns: Sequence[Sequence[int]]) -> Says:
        """The values as they are."""
        return self.says(outputs)

    def losses(self, says: Outputs, targets: Targets) -> Says:
        """Squared errors."""
        return np.asarray((says[:, 0] - targets) ** 2, dtype=np.float64)

    def slopes(self, outputs: Outputs, targets: Targets) -> Says:
        """See `Task`."""
        return np.asarray(2 * (outputs - targets[:, None]), dtype=np.float64)

    def errors(self, outputs: Outputs, targets: Targets) -> Says:
        """Absolute errors."""
        return np.asarray(np.abs(outputs[:, 0] - targets), dtype=np.float64)

    def certain(self, targets: Targets) -> Says:
        """The values."""
        return np.asarray(targets[:, None], dtype=np.float64)

    def mistaken(self, targets: Targets) -> Says:
        """The mean of the values."""
        return np.full((len(targets), 1), float(targets.mean()))

    def base_rates(self, targets: Targets) -> Says:
        """The mean of the values."""
        return np.array([float(targets.mean())])

    def taught(self, says: Says, *, hard: bool, temperature: float) -> list[Any]:
        """The values."""
        return [float(value) for value in says[:, 0]]

    def collected(self, labels: Sequence[Any]) -> Targets:
        """See `Task`."""
        return np.array(labels, dtype=np.float32)

    def hardened(self, targets: Targets) -> Targets:
        """The values as they are."""
        return targets

    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """A single stratum: splits ignore the value."""
        return np.zeros(len(targets), dtype=np.int64)

    def _worst_first(self, outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
        errors = self.errors(outputs, targets)
        rows = np.flatnonzero(errors)
        ordered: NDArray[np.int64] = rows[np.argsort(-errors[rows], kind="stable")]
        return ordered
