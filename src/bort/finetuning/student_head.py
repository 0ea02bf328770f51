"""The linear head that every run fits first, on its own student: what fine-tuning has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example
from bort.finetuning.first_token import FIRST, MEAN, holds_heads, holds_means, put_head, read_features, with_mean
from bort.finetuning.fitter import Fitter
from bort.finetuning.linear_head import Floats, LinearHead, fit_linear_head, loss_of, losses_of, score_of
from bort.progress import console

_MOST = 20_000
"""A head is fitted to so many examples at most: it has learned all it can by then."""
_NAMES = {FIRST: "the first token", MEAN: "the mean of all tokens"}


@dataclass(frozen=True)
class StudentHead:
    """Linear heads on a frozen student.

    Attributes:
        fitter: Of the student.
        whole: Fitted to training and development data; its `out_of_fold` has the rows of both, in this order.
        alone: Fitted to the training data.
        says: What `alone` says of the development data. *Shape:* (examples, outputs).
        truth: Of the development data.
        features: Of both, of the pooling of `whole`. *Shape:* (examples, hidden size).
        held: Whether a plain classifier can hold the head.
    """

    fitter: Fitter
    whole: LinearHead
    alone: LinearHead
    says: Floats
    truth: NDArray[Any]
    features: NDArray[np.float32]
    held: bool

    @property
    def score(self) -> float:
        """The task's metric of `says`, to be compared with models that were fitted to the training data."""
        return score_of(self.fitter.task, self.says, self.truth)

    @property
    def loss(self) -> float:
        """The log-loss, or the squared error, of `says`."""
        return loss_of(self.fitter.task, self.says, self.truth)

    @property
    def dev_out_of_fold(self) -> Floats:
        """What is said of the development data by heads that were fitted to all other folds."""
        return self.whole.out_of_fold[-len(self.truth) :]

    @property
    def described(self) -> str:
        """In words."""
        name = "ridge regression" if self.fitter.task.kind == "regression" else "logistic regression"
        return f"{name} on {_NAMES[self.whole.pooling]}, C {self.whole.inverse_regularisation:g}"

    def classifier(self) -> PreTrainedModel:
        """A plain classifier that answers as `whole`."""
        model = self.fitter.fresh()
        if self.whole.pooling == MEAN:
            model = with_mean(model)
        put_head(model, self.whole.weight, self.whole.bias, self.features.astype(np.float64))
        return model

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """What `whole` says of other examples. *Shape:* (examples, outputs)."""
        features = read_features(self.fitter.fresh(), self.fitter.tokens(examples), self.fitter.pad_token_id)
        return self.whole.says(features).astype(np.float32)

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
        dev: Development data, likewise.
    """
    train, dev = _sample(train, _MOST * 3 // 4), _sample(dev, _MOST // 4)
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
    return StudentHead(fitter, whole, alone, says, targets[count:], features[whole.pooling], holds_heads(model))


def _chosen(fitter: Fitter, features: dict[str, Any], targets: NDArray[Any], groups: Sequence[Any]) -> LinearHead:
    first, *others = (fit_linear_head({name: x}, targets, fitter.task, groups=groups) for name, x in features.items())
    for mean in others:
        gain = losses_of(fitter.task, first.out_of_fold, targets) - losses_of(fitter.task, mean.out_of_fold, targets)
        if mean.score > first.score and gain.mean() > gain.std() / np.sqrt(len(gain)):
            return mean
    return first


def _sample(examples: Sequence[Example], most: int) -> list[Example]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(examples))[:most])
    return [examples[int(place)] for place in chosen]
