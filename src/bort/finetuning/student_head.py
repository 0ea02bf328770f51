"""The linear head that every run fits first on the frozen student: the baseline that fine-tuning has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.arguments import PairReading
from bort.finetuning.first_token import FIRST, MEAN, holds_heads, holds_means, put_head, read_features, with_mean
from bort.finetuning.fitter import Fitter
from bort.finetuning.linear_head import (
    Features,
    Floats,
    LinearHead,
    fit_linear_head,
    fitted_places,
    loss_of,
    score_of,
)
from bort.finetuning.pairs_apart import APART, can_read_apart, put_pair_head, read_pairs
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.predict.encoding import TokenizedExamples
from bort.progress import say

_FITS = {
    "classification": "logistic regression",
    "regression": "ridge regression",
    "multilabel": "one-vs-rest logistic regression",
}
_NAMES = {FIRST: "the first token", MEAN: "the mean of all tokens", APART: "the vectors of both texts"}


_MOST_READ_APART = 2000
"""Most labels with which a bi-encoder is tried; with more, a cross-encoder learns to compare the texts itself."""


@dataclass(frozen=True)
class StudentHead:
    """Linear heads on a frozen student.

    Attributes:
        fitter: Fits models of the student.
        whole: Head fitted to training and development data; its `out_of_fold` has the rows of both, in this order.
        alone: Head fitted to the training data only.
        says: Predictions of `alone` for the development data. *Shape:* (examples, outputs).
        targets: Targets of training and development data.
        features: Features of both, by pooling. *Shape:* (examples, hidden size) each.
        held: Whether a plain classifier can hold the head.
    """

    fitter: Fitter
    whole: LinearHead
    alone: LinearHead
    says: Floats
    targets: NDArray[Any]
    features: Features
    held: bool
    _read: list[tuple[Sequence[Example], Features]] = field(default_factory=list, repr=False)
    """Features of the last examples passed to `features_of`, which are requested more than once."""

    @property
    def truth(self) -> NDArray[Any]:
        """Targets of the development data."""
        return self.targets[-len(self.says) :]

    def beats(self, logits: NDArray[np.float32]) -> bool:
        """Whether `alone` beats a model that was also fitted to the training data only: by score, on a tie by loss.

        Args:
            logits: Outputs of the model for the development data. *Shape:* (examples, outputs).
        """
        task = self.fitter.task
        theirs = task.says(logits)
        own, other = (
            (score_of(task, says, self.truth), -loss_of(task, says, self.truth)) for says in (self.says, theirs)
        )
        return own > other

    def clearly_beats(self, says: Floats) -> bool:
        """Whether heads beat models of the same folds: by score, and with errors fewer by over two standard errors.

        Thresholds, if any, are fitted to each on these data.

        Args:
            says: Out-of-fold predictions of the models for training and development data. *Shape:* (examples, outputs).
        """
        task, own, truth = self.fitter.task, self.whole.out_of_fold, self.targets
        theirs, ours = (task.fitted(each, truth).errors(each, truth) for each in (says, own))
        gain = theirs - ours
        clear = bool(gain.mean() > 2 * gain.std() / np.sqrt(len(gain)))
        return clear and score_of(task, own, truth) > score_of(task, says, truth)

    @property
    def dev_out_of_fold(self) -> Floats:
        """Out-of-fold predictions for the development data."""
        return self.whole.out_of_fold[-len(self.says) :]

    @property
    def labels_used(self) -> int:
        """Number of labels that `whole` was fitted to."""
        return len(self.whole.folds)

    @property
    def described(self) -> str:
        """The head in words."""
        return (
            f"{_FITS[self.fitter.task.kind]} on {_NAMES[self.whole.pooling]}, C {self.whole.inverse_regularisation:g}"
        )

    def classifier(self, head: LinearHead | None = None) -> PreTrainedModel:
        """A plain classifier with the same answers as `whole`, or as another head on the same features."""
        head, model = head or self.whole, self.fitter.fresh()
        if isinstance(model, BortBiEncoderForSequenceClassification):
            put_pair_head(model, head.weight, head.bias)
            return model
        if head.pooling == MEAN:
            model = with_mean(model)
        put_head(model, head.weight, head.bias, self.features[head.pooling])
        return model

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Outputs of `whole` for other examples. *Shape:* (examples, outputs)."""
        return self.whole.says(self.features_of(examples)).astype(np.float32)

    def features_of(self, examples: Sequence[Example]) -> Features:
        """Features of other examples, by pooling. *Shape:* (examples, hidden size) each."""
        if not self._read or self._read[0][0] is not examples:
            self._read[:] = [(examples, _features(self.fitter, self.fitter.fresh(), examples))]
        return self._read[0][1]

    def announce(self) -> None:
        """Print the head's out-of-fold score."""
        say(
            f"linear head on the frozen encoder: {self.fitter.task.metric} {self.whole.score:.3f} out of fold on "
            f"{self.labels_used} labels ({self.described})"
        )


def fit_better_reading(
    fitter_of: Callable[[bool], Fitter], reading: PairReading, train: Sequence[Example], dev: Sequence[Example]
) -> StudentHead:
    """Fit linear heads as `fit_student_head` does, and choose whether pairs are read together or separately.

    With `auto`, a bi-encoder is chosen if there are few labels and its head is clearly better (see `fit_student_head`).

    Args:
        fitter_of: Makes the fitter of a bi-encoder (True) or a cross-encoder (False).
        reading: How the user wants pairs to be read.
        train: Training data.
        dev: Development data.

    Raises:
        BortError: A bi-encoder was requested, but the texts are single or the encoder cannot be one.
    """
    fitter = fitter_of(False)
    pairs = train[0].text_b is not None
    able = pairs and can_read_apart(fitter.fresh(), fitter.tokens.tokenizer.model_input_names)
    if reading == "bi-encoder" and not able:
        rule = "needs pairs of texts, and a BERT encoder whose tokenizer gives token_type_ids"
        raise BortError(rule, setting="pairs", value=reading)
    if reading == "bi-encoder":
        return fit_student_head(fitter_of(True), train, dev)
    together = fit_student_head(fitter, train, dev)
    if reading == "cross-encoder" or not able or len(train) + len(dev) > _MOST_READ_APART:
        return together
    apart = fit_student_head(fitter_of(True), train, dev)
    if not _clearly_better(apart.whole, together.whole, together.targets):
        return together
    scores = f"{fitter.task.metric} {apart.whole.score:.3f} and not {together.whole.score:.3f} out of fold"
    say(f"the two texts of a pair are read apart: {scores}")
    return apart


def fit_student_head(fitter: Fitter, train: Sequence[Example], dev: Sequence[Example]) -> StudentHead:
    """Fit linear heads to the first token and to the mean of all tokens of a frozen student, and keep the better one.

    Plain classifiers read the first token. The mean costs an extra layer, so it must be clearly better out of fold: a
    higher score, and a loss lower by more than the standard error of the difference.

    Args:
        fitter: Fits models of the student; its task has no choices.
        train: Training data.
        dev: Development data. If there are very many of both, `whole` is fitted to a random sample of both, and `alone`
            to one of the training data.
    """
    train = learned_from(train)
    examples = [*train, *dev]
    model = fitter.fresh()
    features = _features(fitter, model, examples)
    if holds_heads(model) and not holds_means(model):
        features.pop(MEAN, None)
    targets = fitter.task.targets(examples)
    groups = [identity(example) for example in examples]
    count = len(train)
    whole = _chosen(fitter, features, targets, groups)
    alone = _chosen(fitter, {name: x[:count] for name, x in features.items()}, targets[:count], groups[:count])
    says = alone.says({name: x[count:] for name, x in features.items()})
    return StudentHead(fitter, whole, alone, says, targets, features, fitter.bi_encoder or holds_heads(model))


def _features(fitter: Fitter, model: PreTrainedModel, examples: Sequence[Example]) -> dict[str, NDArray[np.float32]]:
    tokens: TokenizedExamples = fitter.tokens(examples)
    if isinstance(model, BortBiEncoderForSequenceClassification):
        return {APART: read_pairs(model, tokens, fitter.pad_token_id)}
    return read_features(model, tokens, fitter.pad_token_id)


def _chosen(fitter: Fitter, features: dict[str, Any], targets: NDArray[Any], groups: Sequence[Any]) -> LinearHead:
    first, *others = (
        fit_linear_head({name: x}, targets, fitter.task, groups=groups, balance=fitter.balance)
        for name, x in features.items()
    )
    return next((mean for mean in others if _clearly_better(mean, first, targets)), first)


def _clearly_better(one: LinearHead, other: LinearHead, targets: NDArray[Any]) -> bool:
    """Whether a head's out-of-fold score is higher, and its loss lower by more than the difference's standard error."""
    gain = other.task.losses(other.out_of_fold, targets) - one.task.losses(one.out_of_fold, targets)
    return one.score > other.score and bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def learned_from(examples: Sequence[Example]) -> list[Example]:
    """The examples that a head is fitted to (see `fitted_places`)."""
    return [examples[int(place)] for place in fitted_places(len(examples))]
