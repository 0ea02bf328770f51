"""What one training minimises."""

from __future__ import annotations

import pytest
import torch

from bort.finetuning.train_once import class_loss, value_loss

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
