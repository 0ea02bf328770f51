"""Classification: one class per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, Label, encode_labels
from bort.tasks.activations import softmax
from bort.tasks.metrics import Score, classification_scores, confusion
from bort.tasks.task import LEAST_PROBABILITY, Outputs, Says, Targets, Task, figures_by_label

_LEAST_MEAN = 1e-12


@dataclass(frozen=True)
class Classification(Task):
    """One class per text: the most likely one."""

    kind: ClassVar[Kind] = "classification"
    problem_type = "single_label_classification"
    share_right = "accuracy"

    def targets(self, examples: Sequence[Example]) -> Targets:
        """See `Task`."""
        return np.asarray(encode_labels(examples, self.names), dtype=np.int64)

    def decide(self, outputs: Outputs) -> Targets:
        """The class of the largest output. *Shape:* (examples,)."""
        return np.asarray(outputs.argmax(-1), dtype=np.int64)

    def labels(self, outputs: Outputs) -> list[Label]:
        """See `Task`."""
        return [self.names[place] for place in self.decide(outputs).tolist()]

    def sure(self, outputs: Outputs, thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
        """See `Task`."""
        if not thresholds:
            return super().sure(outputs, thresholds)
        found, answers = self.activate(outputs), self.decide(outputs)
        least = np.array([thresholds.get(name, 0.0) for name in self.names])
        sure: NDArray[np.bool_] = found[np.arange(len(found)), answers] > least[answers]
        return sure

    def claims(self, outputs: Outputs, targets: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """See `Task`; only the most likely class."""
        one_hot = np.eye(self.outputs, dtype=np.bool_)
        given = one_hot[self.decide(outputs)]
        return given, given & one_hot[targets]

    def score(self, outputs: Outputs, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """See `Task`."""
        return self.judge(self.decide(outputs), targets, resamples=resamples)

    def judge(self, decided: Targets, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """Score classes as returned by `decide`. *Shape:* (examples,) each."""
        return classification_scores(targets.tolist(), decided.tolist(), num_labels=self.outputs, resamples=resamples)

    def activate(self, outputs: Outputs) -> Outputs:
        """Softmax."""
        return softmax(outputs)

    def says(self, outputs: Outputs) -> Says:
        """Log-probabilities that sum to 1 in each row."""
        shifted = outputs.astype(np.float64) - outputs.max(-1, keepdims=True)
        log_p: Says = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return log_p

    def bounded(self, says: Says) -> Says:
        """See `Task`."""
        return np.maximum(says, np.log(LEAST_PROBABILITY))

    def mean(self, opinions: Sequence[Says]) -> Says:
        """See `Task`."""
        found: Says = np.log(np.maximum(np.mean(np.exp(opinions), axis=0), _LEAST_MEAN))
        return found

    def combined(self, outputs: Outputs, columns: Sequence[Sequence[int]]) -> Says:
        """See `Task`; probabilities of their classes that stand for the same one of ours are added."""
        return self.says(np.stack([np.logaddexp.reduce(outputs[:, [*those]], axis=-1) for those in columns], axis=-1))

    def losses(self, says: Outputs, targets: Targets) -> Says:
        """Negative log-probability of the right class."""
        right = says[np.arange(len(targets)), targets]
        return np.asarray(-np.maximum(right, np.log(LEAST_PROBABILITY)), dtype=np.float64)

    def slopes(self, outputs: Outputs, targets: Targets) -> Says:
        """See `Task`."""
        found: Says = self.activate(outputs) - np.eye(outputs.shape[1])[targets]
        return found

    def errors(self, outputs: Outputs, targets: Targets) -> Says:
        """0 for a right answer, 1 for a wrong one."""
        return np.asarray(self.decide(outputs) != targets, dtype=np.float64)

    def certain(self, targets: Targets) -> Says:
        """Log-probabilities 0 and -inf."""
        return np.where(np.eye(self.outputs, dtype=bool)[targets], 0.0, -np.inf)

    def mistaken(self, targets: Targets) -> Says:
        """See `Task`."""
        found: Says = np.eye(self.outputs)[(targets + 1) % self.outputs]
        return found

    def base_rates(self, targets: Targets) -> Says:
        """See `Task`."""
        counts = np.bincount(targets.astype(np.int64), minlength=self.outputs) + 1
        return np.asarray(np.log(counts / counts.sum()), dtype=np.float64)

    def taught(self, says: Says, *, hard: bool, temperature: float) -> list[Any]:
        """Classes, or distributions over them as tuples."""
        if hard:
            return [int(row) for row in says.argmax(-1)]
        return [tuple(row) for row in np.exp(self.says(says / temperature)).round(6).tolist()]

    def collected(self, labels: Sequence[Any]) -> Targets:
        """Classes, or distributions if any label is one."""
        if not any(isinstance(label, tuple) for label in labels):
            return np.array(labels, dtype=np.int64)
        certain = np.eye(self.outputs, dtype=np.float32)
        return np.array([y if isinstance(y, tuple) else certain[y] for y in labels], dtype=np.float32)

    def hardened(self, targets: Targets) -> Targets:
        """See `Task`."""
        return targets if targets.ndim == 1 else targets.argmax(-1)

    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """The classes."""
        return targets.astype(np.int64)

    def label_counts(self, targets: Targets) -> dict[str, int]:
        """See `Task`; a distribution counts as its most likely class."""
        counts = np.bincount(self.hardened(targets).astype(np.int64), minlength=self.outputs)
        return dict(zip(self.names, counts.tolist(), strict=True))

    def confusion(self, outputs: Outputs, targets: Targets) -> list[list[int]]:
        """See `Task`."""
        matrix: list[list[int]] = confusion(targets.tolist(), self.decide(outputs).tolist(), self.outputs).tolist()
        return matrix

    def by_label(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """See `Task`."""
        matrix = np.array(self.confusion(outputs, targets))
        return figures_by_label(self.names, matrix.sum(1), matrix.sum(0), matrix.diagonal())

    def _worst_first(self, outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
        rows = np.flatnonzero(self.errors(outputs, targets))
        ordered: NDArray[np.int64] = rows[np.argsort(-self.activate(outputs[rows]).max(-1), kind="stable")]
        return ordered

    def _told(self, outputs: NDArray[Any]) -> dict[str, Any]:
        answer = str(outputs.argmax()) if self.choices else self.names[int(outputs.argmax())]
        return {"answer": answer, "probability": float(self.activate(outputs).max())}
