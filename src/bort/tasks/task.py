"""What is asked of a model: classes or a number, in which words, judged by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example, Kind, encode_labels, encode_values, infer_kind, label_names
from bort.errors import BortError
from bort.tasks.metrics import Score, classification_scores, primary_metric, regression_scores

_LARGEST_VALUE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Task:
    """A classification or a regression over texts or pairs of texts.

    Args:
        kind: Classification or regression.
        names: Names of the classes, in the order of the model's outputs; empty for a regression.
        metric: The score that decides between models.
        choices: Whether the classes are the texts that each example has to choose from, by number. A model then gives
            one score a choice.
    """

    kind: Kind
    names: tuple[str, ...]
    metric: str
    choices: bool = False

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        *,
        kind: Literal["auto"] | Kind = "auto",
        metric: str = "auto",
        names: Sequence[str] = (),
    ) -> Task:
        """Read the task off labelled examples.

        Args:
            examples: What is to be learned from.
            kind: Classification or regression; `auto` decides by the labels.
            metric: The score that decides, or the kind's usual one.
            names: All classes, where the examples do not hold each of them.

        Raises:
            BortError: Fewer than two classes or distinct values, labels that are not numbers where a regression is
                asked for, or a metric of the other kind.
        """
        decided: Kind = infer_kind(examples) if kind == "auto" else kind
        if decided == "classification":
            names = tuple(names or label_names(examples))
            encode_labels(examples, names)
        else:
            names = ()
        if decided == "regression" and len(values := set(encode_values(examples))) < 2:
            rule = f"a regression needs at least two distinct values; there is only {values.pop():g}"
            raise BortError(rule, file=examples[0].source or None)
        if metric == "f1_positive" and len(names) != 2:
            raise BortError("needs two labels", setting="metric", value=metric)
        return cls(decided, names, primary_metric(decided, None if metric == "auto" else metric))

    @property
    def outputs(self) -> int:
        """Width of the model's logits."""
        return len(self.names) or 1

    def targets(self, examples: Sequence[Example]) -> NDArray[np.int64] | NDArray[np.float32]:
        """Class indices, or values. *Shape:* (examples,).

        Raises:
            BortError: An unknown or missing label, or a number beyond single precision, with its file and line.
        """
        if self.kind == "classification":
            return np.asarray(encode_labels(examples, self.names), dtype=np.int64)
        values = encode_values(examples)
        for example, value in zip(examples, values, strict=True):
            if abs(value) > _LARGEST_VALUE:
                rule = f"a label must be a number between -{_LARGEST_VALUE:.2g} and {_LARGEST_VALUE:.2g}"
                raise BortError(
                    rule, file=example.source or None, line=example.line, column="label", value=example.label
                )
        return np.asarray(values, dtype=np.float32)

    def decide(self, logits: NDArray[np.float32]) -> NDArray[np.int64] | NDArray[np.float32]:
        """The class of the largest logit, or the value. *Shape:* (examples, outputs) -> (examples,)."""
        if self.kind == "classification":
            return np.asarray(logits.argmax(-1), dtype=np.int64)
        return logits[:, 0]

    def score(
        self, logits: NDArray[np.float32], targets: NDArray[np.int64] | NDArray[np.float32], *, resamples: int = 1000
    ) -> dict[str, Score]:
        """All metrics of the kind, with bootstrap confidence intervals. *Shape:* logits (examples, outputs)."""
        return self.judge(self.decide(logits), targets, resamples=resamples)

    def judge(
        self,
        decided: NDArray[np.int64] | NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.float32],
        *,
        resamples: int = 1000,
    ) -> dict[str, Score]:
        """Score classes or values, as `decide` gives them, by all metrics of the kind. *Shape:* (examples,)."""
        if self.kind == "classification":
            return classification_scores(
                targets.tolist(), decided.tolist(), num_labels=self.outputs, resamples=resamples
            )
        return regression_scores(targets.tolist(), decided.tolist(), resamples=resamples)
