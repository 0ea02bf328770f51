"""The start of a fine-tuning: a linear head fitted to the frozen encoder, before all weights are trained."""

from __future__ import annotations

from transformers import PreTrainedModel

from bort.finetuning.first_token import FIRST, holds_heads, put_head, read_features
from bort.finetuning.linear_head import fit_weights, fitted_places
from bort.finetuning.pairs_apart import put_pair_head, read_pairs
from bort.finetuning.train_once import Labelled
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.predict.encoding import TokenizedExamples
from bort.tasks.task import Task

INVERSE_REGULARISATION = 0.1
"""Strong regularisation: the head points in the right direction but leaves the encoder something to learn. A head that
fits all examples perfectly has no loss left, so nothing would be trained."""
REACH = 0.5
"""Largest input of the tanh. If it is far smaller, the optimiser's steps are too large for the weights."""
PAIR_REGULARISATION = 1.0
"""The same for a bi-encoder's head, whose encoder compares texts well without training."""


def start_from_head(model: PreTrainedModel, task: Task, train: Labelled, pad_token_id: int) -> None:
    """Initialise a new classifier with a linear head fitted to its training data (Kumar et al. 2022, arXiv 2202.10054).

    Does nothing if the classifier cannot hold a linear head, or if examples have choices.

    Args:
        model: The new classifier.
        task: The task.
        train: Its training data; soft labels are made hard.
        pad_token_id: Id of padding.
    """
    if task.choices or not (isinstance(model, BortBiEncoderForSequenceClassification) or holds_heads(model)):
        return
    rows = fitted_places(len(train))
    columns = {name: [column[row] for row in rows] for name, column in train.encoded.columns.items()}
    encoded, targets = TokenizedExamples(columns), task.hardened(train.targets[rows])
    if isinstance(model, BortBiEncoderForSequenceClassification):
        pairs = read_pairs(model, encoded, pad_token_id)
        put_pair_head(model, *fit_weights(pairs, targets, task, PAIR_REGULARISATION))
        return
    features = read_features(model, encoded, pad_token_id)[FIRST]
    put_head(model, *fit_weights(features, targets, task, INVERSE_REGULARISATION), features, reach=REACH)
