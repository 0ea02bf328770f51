"""The linear head that every run fits first, on its own student: what fine-tuning has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example
from bort.finetuning.first_token import FIRST, MEAN, holds_heads, holds_means, put_head, read_features, with_mean
from bort.finetuning.fitter import Fitter
from bort.finetuning.linear_head import (
    Features,
    Floats,
    LinearHead,
    fit_linear_head,
    loss_of,
    score_of,
)
from bort.progress import console

_MOST = 15_000
"""A head is fitted to so many training examples at most: it has learned all it can by then."""
_FITS = {
    "classification": "logistic regression",
    "regression": "ridge regression",
    "multilabel": "one-vs-rest logistic regression",
}
_NAMES = {FIRST: "the first token", MEAN: "the mean of all tokens"}


@dataclass(frozen=True)
class StudentHead:
    """Linear heads on a frozen student.

    Attributes:
        fitter: Of the student.
        whole: Fitted to training and development data; its `out_of_fold` has the rows of both, in this order.
        alone: Fitted to the training data.
        says: What `alone` says of the development data. *Shape:* (examples, outputs).
        targets: Of training and development data.
        features: Of both, by pooling. *Shape:* (examples, hidden size) each.
        held: Whether a plain classifier can hold the head.
    """

    fitter: Fitter
    whole: LinearHead
    alone: LinearHead
    says: Floats
    targets: NDArray[Any]
    features: Features
    held: bool
    _read: dict[int, Features] = field(default_factory=dict, repr=False)
    """Of the last examples that were asked about, which are asked about again."""

    @property
    def truth(self) -> NDArray[Any]:
        """Targets of the development data."""
        return self.targets[-len(self.says) :]

    def beats(self, logits: NDArray[np.float32]) -> bool:
        """Whether a head that has learned from the training data alone is better than a model that has.

        Args:
            logits: What the model says of the development data. *Shape:* (examples, outputs).
        """
        task = self.fitter.task
        theirs = task.says(logits)
        own, other = (
            (score_of(task, says, self.truth), -loss_of(task, says, self.truth)) for says in (self.says, theirs)
        )
        return own > other

    @property
    def dev_out_of_fold(self) -> Floats:
        """What is said of the development data by heads that were fitted to all other folds."""
        return self.whole.out_of_fold[-len(self.says) :]

    @property
    def described(self) -> str:
        """In words."""
        return (
            f"{_FITS[self.fitter.task.kind]} on {_NAMES[self.whole.pooling]}, C {self.whole.inverse_regularisation:g}"
        )

    def classifier(self, head: LinearHead | None = None) -> PreTrainedModel:
        """A plain classifier that answers as `whole`, or as another head on the same features."""
        head, model = head or self.whole, self.fitter.fresh()
        if head.pooling == MEAN:
            model = with_mean(model)
        put_head(model, head.weight, head.bias, self.features[head.pooling])
        return model

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """What `whole` says of other examples. *Shape:* (examples, outputs)."""
        return self.whole.says(self.features_of(examples)).astype(np.float32)

    def features_of(self, examples: Sequence[Example]) -> Features:
        """Features of other examples, by pooling. *Shape:* (examples, hidden size) each."""
        if id(examples) not in self._read:
            self._read.clear()
            tokens = self.fitter.tokens(examples)
            self._read[id(examples)] = read_features(self.fitter.fresh(), tokens, self.fitter.pad_token_id)
        return self._read[id(examples)]

    def announce(self) -> None:
        """Say how good it is."""
        console().print(
            f"linear head on the frozen encoder: {self.fitter.task.metric} {self.whole.score:.3f} out of fold on "
            f"{len(self.whole.out_of_fold)} labels ({self.described})",
            soft_wrap=True,
        )


def fit_student_head(fitter: Fitter, train: Sequence[Example], dev: Sequence[Example]) -> StudentHead:
    """Fit linear heads to the first token and to the mean of a frozen student, and keep the better.

    The first token is what plain classifiers read. The mean costs a layer more, so it must be clearly better out of
    fold: its score higher, and its loss lower by more than the standard error of the difference.

    Args:
        fitter: Of the student, and of a task without choices.
        train: Training data; a sample where they are very many.
        dev: Development data.
    """
    train = learned_from(train)
    examples = [*train, *dev]
    model = fitter.fresh()
    features = read_features(model, fitter.tokens(examples), fitter.pad_token_id)
    if holds_heads(model) and not holds_means(model):
        del features[MEAN]
    targets = fitter.task.targets(examples)
    groups = [(fold_text(example.text), fold_text(example.text_b or "")) for example in examples]
    count = len(train)
    whole = _chosen(fitter, features, targets, groups)
    alone = _chosen(fitter, {name: x[:count] for name, x in features.items()}, targets[:count], groups[:count])
    says = alone.says({name: x[count:] for name, x in features.items()})
    return StudentHead(fitter, whole, alone, says, targets, features, holds_heads(model))


def _chosen(fitter: Fitter, features: dict[str, Any], targets: NDArray[Any], groups: Sequence[Any]) -> LinearHead:
    first, *others = (fit_linear_head({name: x}, targets, fitter.task, groups=groups) for name, x in features.items())
    for mean in others:
        gain = fitter.task.losses(first.out_of_fold, targets) - fitter.task.losses(mean.out_of_fold, targets)
        if mean.score > first.score and gain.mean() > gain.std() / np.sqrt(len(gain)):
            return mean
    return first


def learned_from(train: Sequence[Example]) -> list[Example]:
    """The training examples that heads are fitted to: all, or a sample where they are very many."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:_MOST])
    return [train[int(place)] for place in chosen]
