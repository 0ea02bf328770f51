"""What is asked of a model: a class, several labels, or a number; in which words, judged by what."""

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
"""What a model gives: raw outputs, or what `Task.says` makes of them. *Shape:* (examples, outputs)."""
Targets = NDArray[Any]
"""What is right: classes (integers) or values, *shape* (examples,); 0 and 1 of labels, *shape* (examples, labels)."""
Says = NDArray[np.float64]
LEAST_PROBABILITY = 1e-6
"""What counts in the log-loss where a label was held to be impossible."""
_MOST_WRONG = 1000


@dataclass(frozen=True)
class Task(ABC):
    """All that differs between kinds of tasks, over texts or pairs of texts.

    Args:
        names: Names of the labels, in the order of the model's outputs; empty for a regression.
        metric: The score that decides between models.
        choices: Whether the classes are the texts that each example has to choose from, by number. A model then gives
            one score a choice.
    """

    names: tuple[str, ...]
    metric: str
    choices: bool = False

    kind: ClassVar[Kind]
    problem_type: ClassVar[str]
    """The kind's name in config.json of `transformers`."""
    share_right: ClassVar[str | None] = None
    """The metric that says how large a share is right; None of numbers."""

    @classmethod
    def of_model(
        cls, names: Sequence[str], metric: str, thresholds: Mapping[str, float], *, choices: bool = False
    ) -> Self:
        """The task of a fitted model.

        Args:
            names: Of its labels.
            metric: By which it was chosen.
            thresholds: Of its labels, by name.
            choices: As of `Task`.
        """
        return cls(tuple(names), metric, choices)

    def described(self) -> dict[str, Any]:
        """What a manifest says of it, beside thresholds."""
        return {"kind": self.kind, "names": list(self.names), "metric": self.metric, "choices": self.choices}

    @property
    def outputs(self) -> int:
        """Width of the model's logits."""
        return len(self.names) or 1

    @property
    def threshold_by_name(self) -> dict[str, float]:
        """The probability that each label must lie above to be given; empty where that is no matter of the task."""
        return {}

    def fitted(self, outputs: Outputs, targets: Targets) -> Self:
        """The task with what development data decide: thresholds, where the kind has any and they are not set.

        Args:
            outputs: Of a model that has not learned from these data.
            targets: What is right.
        """
        return self

    @abstractmethod
    def targets(self, examples: Sequence[Example]) -> Targets:
        """What is right, by the examples' labels.

        Raises:
            BortError: An unknown or missing label, or a number beyond single precision, with its file and line.
        """

    @abstractmethod
    def decide(self, outputs: Outputs) -> Targets:
        """The answers, in the form of targets."""

    @abstractmethod
    def labels(self, outputs: Outputs) -> list[Label]:
        """The answers, as `Example.label` has them."""

    def sure(self, outputs: Outputs, thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
        """Which answers are sure enough, where an answer may be none. *Shape:* (examples,).

        Args:
            outputs: Of a model.
            thresholds: Probabilities that an answer must lie above, by name; one without a threshold is sure enough.
        """
        return np.ones(len(outputs), dtype=np.bool_)

    @abstractmethod
    def claims(self, outputs: Outputs, targets: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which labels each example might be given, and which of these it has. *Shape:* (examples, labels) each."""

    @abstractmethod
    def score(self, outputs: Outputs, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """All metrics of the kind, with bootstrap confidence intervals."""

    @abstractmethod
    def activate(self, outputs: Outputs) -> Outputs:
        """What users see of raw outputs: probabilities, or values."""

    @abstractmethod
    def says(self, outputs: Outputs) -> Says:
        """Log-probabilities of classes, log-odds of labels, or values. What it gives it leaves as it is."""

    @abstractmethod
    def bounded(self, says: Says) -> Says:
        """The same without certainties, so that one who is certain and wrong does not silence others."""

    @abstractmethod
    def mean(self, opinions: Sequence[Says]) -> Says:
        """What several say together: the mean of their probabilities, or of their values."""

    @abstractmethod
    def combined(self, outputs: Outputs, columns: Sequence[Sequence[int]]) -> Says:
        """What another model's outputs say, some of whose labels stand for each of ours.

        Args:
            outputs: Of the other model, of a task of the same kind. *Shape:* (examples, its outputs).
            columns: For each label of ours the places of those that stand for it.
        """

    @abstractmethod
    def losses(self, says: Outputs, targets: Targets) -> Says:
        """Log-losses, of several labels their mean, or squared errors. *Shape:* (examples,)."""

    @abstractmethod
    def slopes(self, outputs: Outputs, targets: Targets) -> Says:
        """The derivative of each example's loss by its outputs. *Shape:* (examples, outputs)."""

    @abstractmethod
    def errors(self, outputs: Outputs, targets: Targets) -> Says:
        """How many labels are wrong, or how far values are off. *Shape:* (examples,)."""

    @abstractmethod
    def certain(self, targets: Targets) -> Says:
        """What one says who knows what is right. *Shape:* (examples, outputs)."""

    @abstractmethod
    def mistaken(self, targets: Targets) -> Says:
        """What counts as the answer of one who does not know: outputs that are wrong, or the mean value."""

    @abstractmethod
    def base_rates(self, targets: Targets) -> Says:
        """What one says who knows how frequent each label is, or the mean value, and no more. *Shape:* (outputs,)."""

    @abstractmethod
    def taught(self, says: Says, *, hard: bool, temperature: float) -> list[Any]:
        """Labels to learn from, of each row what `collected` takes.

        Args:
            says: What somebody says, without rows of NaN.
            hard: Only the answer, without its probability.
            temperature: Of probabilities.
        """

    @abstractmethod
    def collected(self, labels: Sequence[Any]) -> Targets:
        """Targets to learn from, of rows of `targets` and of `taught`; distributions where one of them is one."""

    @abstractmethod
    def hardened(self, targets: Targets) -> Targets:
        """Targets without probabilities, of targets that may be such."""

    @abstractmethod
    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """Groups of examples that every part of the data shall have its share of. *Shape:* (examples,)."""

    def label_counts(self, targets: Targets) -> dict[str, int]:
        """How many examples have each label; empty for a regression.

        Args:
            targets: As of `collected`.
        """
        return {}

    def confusion(self, outputs: Outputs, targets: Targets) -> list[list[int]] | None:
        """Rows of true, columns of predicted classes; None where there are none."""
        return None

    def by_label(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """Of each label how many `examples` have it, how many are `answered` with it, how many of these are `right`."""
        return []

    def wrong(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """The answers that differ from the labels, the worst first; a thousand at most.

        Returns:
            Of each the place of its example as `row`, and the `answer`; of a class also its `probability`.
        """
        order = self._worst_first(outputs, targets)[:_MOST_WRONG]
        return [{"row": int(row), **self._told(outputs[row])} for row in order]

    @abstractmethod
    def _worst_first(self, outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
        """Places of the answers that differ."""

    def _told(self, outputs: NDArray[Any]) -> dict[str, Any]:
        """An answer as `wrong` tells it, of outputs of the *shape* (outputs,)."""
        [label] = self.labels(outputs[None])
        return {"answer": list(label) if isinstance(label, tuple) else label}  # as JSON has it


def figures_by_label(names: Sequence[str], examples: Any, answered: Any, right: Any) -> list[dict[str, Any]]:
    """Rows of `Task.by_label` out of three counts a label."""
    columns = zip(names, examples, answered, right, strict=True)
    return [{"label": n, "examples": int(e), "answered": int(a), "right": int(r)} for n, e, a, r in columns]
