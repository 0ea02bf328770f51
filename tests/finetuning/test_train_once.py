"""What one training minimises, and which checkpoints it goes on from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bort.finetuning.hyper_parameters import TrainingLimits
from bort.finetuning.train_once import Labelled, _Watch, class_loss, value_loss
from bort.predict.encoding import TokenizedExamples
from bort.tasks.classification import Classification
from bort.training import checkpoints

ROWS, RARE = 100, 5


@pytest.fixture
def unbalanced():
    """95 rows of one class and 5 of the other, with the weights that --balance gives them."""
    classes = torch.zeros(ROWS, dtype=torch.long)
    classes[torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))[:RARE]] = 1
    return classes, torch.tensor([ROWS / (2 * (ROWS - RARE)), ROWS / (2 * RARE)])


@pytest.mark.parametrize("batch", [1, 4, 10, ROWS])
def test_balance_gives_each_class_the_same_part_of_an_epochs_loss(unbalanced, batch):
    classes, weights = unbalanced
    parts = torch.zeros(2)
    for rows in classes.split(batch):
        logits = torch.zeros(len(rows), 2, requires_grad=True)
        class_loss(logits, rows, weights).backward()
        # The gradient of a row at equal logits is half its weight, towards its own class.
        for label in (0, 1):
            parts[label] += logits.grad[rows == label].abs().sum() * len(rows)
    torch.testing.assert_close(parts[0], parts[1])


@pytest.mark.parametrize("weighted", [False, True])
def test_hard_labels_have_the_loss_of_the_same_labels_as_distributions(unbalanced, weighted):
    classes, weights = unbalanced
    logits = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1))
    chosen = weights if weighted else None
    soft = torch.nn.functional.one_hot(classes, 2).float()
    torch.testing.assert_close(class_loss(logits, classes, chosen), class_loss(logits, soft, chosen))


def test_values_have_the_squared_error():
    loss = value_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor(5.0))


def test_other_texts_labels_or_vectors_are_other_data():
    soft = np.random.default_rng(0).dirichlet([1, 1], 300)
    encoded = TokenizedExamples({"input_ids": [[2, 5, 3]] * 300}, 0)
    data = Labelled(encoded, soft, np.ones((300, 4), np.float32))
    fewer = TokenizedExamples({"input_ids": [[2, 5, 3]] * 299}, 0)
    cut = TokenizedExamples({"input_ids": [[2, 5], [3, 2, 5, 3], *[[2, 5, 3]] * 298]}, 0)
    swapped, flipped = soft.copy(), soft.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    flipped[7] = 1 - flipped[7]
    others = [
        Labelled(fewer, soft[:-1], data.vectors[:-1]),
        replace(data, encoded=cut),
        replace(data, targets=swapped),
        replace(data, targets=flipped),
        replace(data, targets=soft.argmax(-1)),
        replace(data, vectors=None),
        replace(data, vectors=2 * data.vectors),
    ]
    assert len({other.digest() for other in [data, *others]}) == 1 + len(others)
    last_digits = soft * (1 + 1e-9 * np.random.default_rng(1).standard_normal(soft.shape))
    assert replace(data, targets=last_digits).digest() == data.digest(), "as on another machine"


def test_a_training_goes_on_from_a_checkpoint_of_the_same_data_only(tmp_path):
    def watch(data):
        task, limits = Classification(("a", "b"), "accuracy"), TrainingLimits(1, None, 1, None, 60.0)
        return _Watch(None, task, None, 0, limits, 9, 9, False, print, data)

    checkpoint = tmp_path / "00-000" / "checkpoint-3"
    for known in ({"evaluations": []}, {"evaluations": [], "data": "a"}):
        checkpoint.mkdir(parents=True, exist_ok=True)
        checkpoints.complete(checkpoint, known)
        assert watch("a").latest_checkpoint(checkpoint.parent) == checkpoint
    assert watch("b").latest_checkpoint(checkpoint.parent) is None
    assert not checkpoint.parent.exists()
