"""The base of all tasks, which predict a class, several labels or a number per text: label names and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, Label
from bort.tasks.metrics import Score

Outputs = NDArray[Any]
"""Outputs of a model: raw, or in the form of `Task.says`. *Shape:* (examples, outputs)."""
Targets = NDArray[Any]
"""Targets: classes (integers) or values, *shape* (examples,); 0 or 1 per label, *shape* (examples, labels)."""
Says = NDArray[np.float64]
LEAST_PROBABILITY = 1e-6
"""Lower bound of probabilities, for example in the log-loss."""
_MOST_WRONG = 1000


@dataclass(frozen=True)
class Task(ABC):
    """Everything that differs between kinds of tasks on texts or pairs of texts.

    Args:
        names: Names of the labels, in the order of the model's outputs; empty for a regression.
        metric: The metric that selects models.
        choices: Whether each example has its own choices, whose numbers are the classes. A model then gives one score
            per choice.
    """

    names: tuple[str, ...]
    metric: str
    choices: bool = False

    kind: ClassVar[Kind]
    problem_type: ClassVar[str]
    """`problem_type` in the config.json of `transformers`."""
    share_right: ClassVar[str | None] = None
    """The metric that is the share of right answers; None for regression."""

    @classmethod
    def of_model(
        cls, names: Sequence[str], metric: str, thresholds: Mapping[str, float], *, choices: bool = False
    ) -> Self:
        """The task of a fitted model.

        Args:
            names: Names of its labels.
            metric: Metric by which it was chosen.
            thresholds: Thresholds of its labels, by name.
            choices: As in `Task`.
        """
        return cls(tuple(names), metric, choices)

    def described(self) -> dict[str, Any]:
        """Entries for a manifest, except thresholds."""
        return {"kind": self.kind, "names": list(self.names), "metric": self.metric, "choices": self.choices}

    @property
    def outputs(self) -> int:
        """Width of the model's logits."""
        return len(self.names) or 1

    @property
    def threshold_by_name(self) -> dict[str, float]:
        """The probability above which each label is given; empty if the task has no thresholds."""
        return {}

    def fitted(self, outputs: Outputs, targets: Targets) -> Self:
        """The task with thresholds chosen on development data, if the kind has thresholds and they are not set.

        Args:
            outputs: Outputs of a model that was not fitted to these data.
            targets: The right answers.
        """
        return self

    @abstractmethod
    def targets(self, examples: Sequence[Example]) -> Targets:
        """The right answers, from the examples' labels.

        Raises:
            BortError: A label is unknown, missing, or a number beyond single precision; the error names file and line.
        """

    @abstractmethod
    def decide(self, outputs: Outputs) -> Targets:
        """The answers, in the form of targets."""

    @abstractmethod
    def labels(self, outputs: Outputs) -> list[Label]:
        """The answers, in the form of `Example.label`."""

    def sure(self, outputs: Outputs, thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
        """Which answers are certain enough to be given. *Shape:* (examples,).

        Args:
            outputs: Outputs of a model.
            thresholds: Probabilities that an answer must exceed, by name; one without a threshold is always given.
        """
        return np.ones(len(outputs), dtype=np.bool_)

    @abstractmethod
    def claims(self, outputs: Outputs, targets: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which labels each example could be given, and which of these it has. *Shape:* (examples, labels) each."""

    @abstractmethod
    def score(self, outputs: Outputs, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """All metrics of the kind, with bootstrap confidence intervals."""

    @abstractmethod
    def activate(self, outputs: Outputs) -> Outputs:
        """Convert raw outputs to what users see: probabilities, or values."""

    @abstractmethod
    def says(self, outputs: Outputs) -> Says:
        """Log-probabilities of classes, log-odds of labels, or values. Idempotent."""

    @abstractmethod
    def bounded(self, says: Says) -> Says:
        """Bound predictions away from certainty, so that one that is certain and wrong does not outweigh all others."""

    @abstractmethod
    def mean(self, opinions: Sequence[Says]) -> Says:
        """Combine several predictions: the mean of their probabilities, or of their values."""

    @abstractmethod
    def combined(self, outputs: Outputs, columns: Sequence[Sequence[int]]) -> Says:
        """Convert another model's outputs to our labels, each of which one or more of its labels stand for.

        Args:
            outputs: Outputs of the other model, for a task of the same kind. *Shape:* (examples, its outputs).
            columns: For each label of ours, the columns of its labels that stand for it.
        """

    @abstractmethod
    def losses(self, says: Outputs, targets: Targets) -> Says:
        """Log-losses, averaged over several labels, or squared errors. *Shape:* (examples,)."""

    @abstractmethod
    def slopes(self, outputs: Outputs, targets: Targets) -> Says:
        """The gradient of each example's loss with respect to its outputs. *Shape:* (examples, outputs)."""

    @abstractmethod
    def errors(self, outputs: Outputs, targets: Targets) -> Says:
        """The number of wrong labels, or the absolute error. *Shape:* (examples,)."""

    @abstractmethod
    def certain(self, targets: Targets) -> Says:
        """Predictions that are certain of the right answers. *Shape:* (examples, outputs)."""

    @abstractmethod
    def mistaken(self, targets: Targets) -> Says:
        """Predictions that count in place of missing answers: wrong ones, or the mean value."""

    @abstractmethod
    def base_rates(self, targets: Targets) -> Says:
        """Predictions from the label frequencies alone, or the mean value. *Shape:* (outputs,)."""

    @abstractmethod
    def taught(self, says: Says, *, hard: bool, temperature: float) -> list[Any]:
        """Convert predictions to labels to train on, one per row, for `collected`.

        Args:
            says: Predictions, without rows of NaN.
            hard: Whether to give only the answers, without probabilities.
            temperature: Temperature of the probabilities.
        """

    @abstractmethod
    def collected(self, labels: Sequence[Any]) -> Targets:
        """Targets to train on, from rows of `targets` and of `taught`; distributions if one of them is one."""

    @abstractmethod
    def hardened(self, targets: Targets) -> Targets:
        """Convert targets that may be probabilities to hard ones."""

    @abstractmethod
    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """The stratum of each example, for stratified splits. *Shape:* (examples,)."""

    def label_counts(self, targets: Targets) -> dict[str, int]:
        """How many examples have each label; empty for a regression.

        Args:
            targets: As returned by `collected`.
        """
        return {}

    def confusion(self, outputs: Outputs, targets: Targets) -> list[list[int]] | None:
        """Confusion matrix, with a row per true and a column per predicted class; None for other kinds of tasks."""
        return None

    def by_label(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """Per label: how many `examples` have it, how many are `answered` with it, how many of these are `right`."""
        return []

    def wrong(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """The answers that differ from the labels, the worst first; at most 1000.

        Returns:
            For each, the index of its example as `row`, and the `answer`; for a class also its `probability`.
        """
        order = self._worst_first(outputs, targets)[:_MOST_WRONG]
        return [{"row": int(row), **self._told(outputs[row])} for row in order]

    @abstractmethod
    def _worst_first(self, outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
        """Indices of the answers that differ from the labels, the worst first."""

    def _told(self, outputs: NDArray[Any]) -> dict[str, Any]:
        """An answer in the form of `wrong`, from outputs of *shape* (outputs,)."""
        [label] = self.labels(outputs[None])
        return {"answer": list(label) if isinstance(label, tuple) else label}  # a list, as in JSON


def figures_by_label(names: Sequence[str], examples: Any, answered: Any, right: Any) -> list[dict[str, Any]]:
    """Rows of `Task.by_label` from three counts per label."""
    columns = zip(names, examples, answered, right, strict=True)
    return [{"label": n, "examples": int(e), "answered": int(a), "right": int(r)} for n, e, a, r in columns]
