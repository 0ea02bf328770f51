"""Multi-label classification: any number of labels per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, Label, encode_label_lists
from bort.tasks.activations import sigmoid
from bort.tasks.label_metrics import multilabel_scores
from bort.tasks.label_thresholds import USUAL, best_thresholds
from bort.tasks.metrics import Score
from bort.tasks.task import LEAST_PROBABILITY, Outputs, Says, Targets, Task, figures_by_label

_MOST_ODDS = float(np.log(1 / LEAST_PROBABILITY))


@dataclass(frozen=True)
class MultiLabel(Task):
    """All labels of a text whose probability is above their threshold; each output is the log-odds of a label.

    Args:
        thresholds: Probabilities, in the order of the names. Empty if they are not chosen yet: then scores use the
            thresholds that are best on the scored data themselves, which suits development data only.
    """

    thresholds: tuple[float, ...] = ()

    kind: ClassVar[Kind] = "multilabel"
    problem_type = "multi_label_classification"
    share_right = "f1_micro"

    @classmethod
    def of_model(
        cls, names: Sequence[str], metric: str, thresholds: Mapping[str, float], *, choices: bool = False
    ) -> Self:
        """See `Task`; the threshold is one half for a label without one."""
        return cls(tuple(names), metric, thresholds=tuple(float(thresholds.get(name, USUAL)) for name in names))

    @property
    def threshold_by_name(self) -> dict[str, float]:
        """See `Task`; empty if they are not chosen yet."""
        return dict(zip(self.names, self.thresholds, strict=True)) if self.thresholds else {}

    def fitted(self, outputs: Outputs, targets: Targets) -> Self:
        """See `Task` and `best_thresholds`."""
        if self.thresholds:
            return self
        return replace(self, thresholds=tuple(best_thresholds(self.activate(outputs), targets).tolist()))

    def targets(self, examples: Sequence[Example]) -> Targets:
        """1 where an example has a label, else 0. *Shape:* (examples, labels)."""
        found = np.zeros((len(examples), self.outputs), np.float32)
        for row, places in enumerate(encode_label_lists(examples, self.names)):
            found[row, places] = 1
        return found

    def decide(self, outputs: Outputs) -> Targets:
        """1 where the probability is above the threshold. *Shape:* (examples, labels)."""
        least = np.array(self.thresholds or [USUAL] * self.outputs)
        return (self.activate(outputs) > least).astype(np.float32)

    def labels(self, outputs: Outputs) -> list[Label]:
        """See `Task`."""
        names = np.array(self.names, dtype=object)
        return [tuple(sorted(names[row].tolist())) for row in self.decide(outputs) > 0]

    def claims(self, outputs: Outputs, targets: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """See `Task`; every label."""
        return np.ones(outputs.shape, dtype=np.bool_), targets > USUAL

    def score(self, outputs: Outputs, targets: Targets, *, resamples: int = 1000) -> dict[str, Score]:
        """See `Task`."""
        decided = self.fitted(outputs, targets).decide(outputs)
        return multilabel_scores(targets, decided, outputs, resamples=resamples)

    def activate(self, outputs: Outputs) -> Outputs:
        """Sigmoid."""
        return sigmoid(outputs)

    def says(self, outputs: Outputs) -> Says:
        """The log-odds as they are."""
        return outputs.astype(np.float64)

    def bounded(self, says: Says) -> Says:
        """See `Task`."""
        return np.clip(says, -_MOST_ODDS, _MOST_ODDS)

    def mean(self, opinions: Sequence[Says]) -> Says:
        """See `Task`."""
        return _log_odds(np.mean([self.activate(each) for each in opinions], axis=0))

    def combined(self, outputs: Outputs, columns: Sequence[Sequence[int]]) -> Says:
        """See `Task`; the most likely of their labels that stand for the same one of ours counts."""
        return self.says(np.stack([outputs[:, [*those]].max(-1) for those in columns], axis=-1))

    def losses(self, says: Outputs, targets: Targets) -> Says:
        """Binary cross-entropy, averaged over the labels."""
        odds = self.bounded(says.astype(np.float64))
        found: Says = (np.logaddexp(0, odds) - targets * odds).mean(-1)
        return found

    def slopes(self, outputs: Outputs, targets: Targets) -> Says:
        """See `Task`."""
        return np.asarray((self.activate(outputs) - targets) / self.outputs, dtype=np.float64)

    def errors(self, outputs: Outputs, targets: Targets) -> Says:
        """Number of labels that are missing or wrongly given."""
        return np.asarray(np.abs(self.decide(outputs) - self.hardened(targets)).sum(-1), dtype=np.float64)

    def certain(self, targets: Targets) -> Says:
        """The largest log-odds in use, positive for right labels and negative for wrong ones."""
        return np.where(targets > USUAL, _MOST_ODDS, -_MOST_ODDS)

    def mistaken(self, targets: Targets) -> Says:
        """Certain of every wrong label and of no right one."""
        return -self.certain(targets)

    def base_rates(self, targets: Targets) -> Says:
        """See `Task`."""
        return _log_odds((self.hardened(targets).sum(0) + 1) / (len(targets) + 2))

    def taught(self, says: Says, *, hard: bool, temperature: float) -> list[Any]:
        """Probabilities of the labels, or 0 and 1 as in `decide`, as tuples."""
        made = self.decide(says) if hard else self.activate(says / temperature).round(6)
        return [tuple(row) for row in made.tolist()]

    def collected(self, labels: Sequence[Any]) -> Targets:
        """Probabilities of the labels. *Shape:* (rows, labels)."""
        return np.array(labels, dtype=np.float32).reshape(len(labels), self.outputs)

    def hardened(self, targets: Targets) -> Targets:
        """See `Task`."""
        return (targets > USUAL).astype(np.float32)

    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """The rarest label of each example, so that rare labels are distributed first; see `rarest_labels`."""
        return rarest_labels(targets)

    def label_counts(self, targets: Targets) -> dict[str, int]:
        """See `Task`; a label counts where its probability is above one half."""
        return dict(zip(self.names, self.hardened(targets).sum(0).astype(int).tolist(), strict=True))

    def by_label(self, outputs: Outputs, targets: Targets) -> list[dict[str, Any]]:
        """See `Task`; with the `threshold` of each."""
        decided = self.decide(outputs)
        rows = figures_by_label(self.names, targets.sum(0), decided.sum(0), (targets * decided).sum(0))
        least = self.thresholds or [USUAL] * self.outputs
        return [row | {"threshold": threshold} for row, threshold in zip(rows, least, strict=True)]

    def _worst_first(self, outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
        rows = np.flatnonzero(self.errors(outputs, targets))
        ordered: NDArray[np.int64] = rows[np.argsort(-self.losses(outputs[rows], targets[rows]), kind="stable")]
        return ordered


def rarest_labels(targets: Targets) -> NDArray[np.int64]:
    """The index of each example's rarest label that another example has too; without one, the number of labels.

    Labels that only one example has are ignored, because one example cannot be distributed over several parts.

    Args:
        targets: *Shape:* (examples, labels).
    """
    given = targets > USUAL
    counts = given.sum(0)
    frequency = np.where(counts > 1, counts, len(targets) + 1)
    rarest = np.where(given & (counts > 1), frequency, len(targets) + 1).argmin(-1)
    none = ~(given & (counts > 1)).any(-1)
    return np.asarray(np.where(none, targets.shape[1], rarest), dtype=np.int64)


def _log_odds(probabilities: Any) -> Says:
    p = np.clip(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    found: Says = np.log(p) - np.log1p(-p)
    return found
