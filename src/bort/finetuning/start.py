"""Where a fine-tuning begins: with a linear head on the encoder as it is, then all weights are trained."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from bort.finetuning.first_token import FIRST, holds_heads, put_head, read_features
from bort.finetuning.linear_head import fit_weights
from bort.finetuning.pairs_apart import put_pair_head, read_pairs
from bort.finetuning.train_once import Labelled
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.predict.encoding import TokenizedExamples
from bort.tasks.task import Task

INVERSE_REGULARISATION = 0.1
"""A strong one: the head points the right way and leaves the encoder something to learn. One that knows all examples by
heart has no loss left, so nothing is trained."""
REACH = 0.5
"""What the largest input of the tanh is. Far less, and the steps of the optimiser are too large for the weights."""
PAIR_REGULARISATION = 1.0
"""The same of a bi-encoder's head, whose encoder compares texts well as it is."""
_MOST = 15_000


def start_from_head(model: PreTrainedModel, task: Task, train: Labelled, pad_token_id: int) -> None:
    """Give a fresh classifier a linear head that was fitted to its training data (Kumar et al. 2022, arXiv 2202.10054).

    Where its kind of head cannot hold one, or examples have choices, nothing is changed.

    Args:
        model: Fresh.
        task: What to learn.
        train: What it will be trained on; of probabilities the likeliest label counts.
        pad_token_id: Id of padding.
    """
    if task.choices or not (isinstance(model, BortBiEncoderForSequenceClassification) or holds_heads(model)):
        return
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[:_MOST])
    columns = {name: [column[row] for row in rows] for name, column in train.encoded.columns.items()}
    encoded, targets = TokenizedExamples(columns, 0), task.hardened(train.targets[rows])
    if isinstance(model, BortBiEncoderForSequenceClassification):
        pairs = read_pairs(model, encoded, pad_token_id)
        put_pair_head(model, *fit_weights(pairs, targets, task, PAIR_REGULARISATION))
        return
    features = read_features(model, encoded, pad_token_id)[FIRST]
    put_head(model, *fit_weights(features, targets, task, INVERSE_REGULARISATION), features, reach=REACH)
