"""A fine-tuning that begins with a linear head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bort.finetuning import fitter as module
from bort.finetuning.hyper_parameters import HyperParameters
from bort.finetuning.splits import read_splits
from bort.finetuning.start import start_from_head
from bort.finetuning.train_once import Labelled, class_loss
from bort.tasks.classification import Classification


@pytest.fixture
def data(world, tmp_path):
    return read_splits(world.finetuning(tmp_path, method="plain"))


@pytest.fixture
def fitter(world, tmp_path, data):
    return data.fitter(world.finetuning(tmp_path, method="plain"))


def loss(fitter, model, labelled):
    logits = torch.from_numpy(fitter.logits(model, labelled.encoded))
    return float(class_loss(logits, torch.from_numpy(labelled.targets)))


def test_it_knows_more_than_a_fresh_one_and_can_still_learn(fitter, data):
    train, dev = fitter.labelled(data.train), fitter.labelled(data.dev)
    fresh, begun = fitter.fresh(), fitter.fresh()
    start_from_head(begun, fitter.task, train, fitter.pad_token_id)
    for part in (train, dev):
        assert loss(fitter, begun, part) < loss(fitter, fresh, part)
    assert loss(fitter, begun, train) > 0.1, "a head that has no loss left teaches its encoder nothing"
    # As far as its optimiser's steps go, the weights are of the usual size.
    assert begun.classifier.weight.abs().max() < 10
    assert begun.bert.pooler.dense.weight.diagonal().min() > 0.01


def test_soft_labels_count_as_their_likeliest_class(fitter, data):
    train = fitter.labelled(data.train)
    soft = Labelled(train.encoded, np.eye(2, dtype=np.float32)[train.targets] * 0.8 + 0.1)
    models = []
    for labelled in (train, soft):
        models.append(fitter.fresh())
        start_from_head(models[-1], fitter.task, labelled, fitter.pad_token_id)
    assert torch.equal(models[0].classifier.weight, models[1].classifier.weight)


def test_the_chance_of_a_training_stays_what_its_seed_says(fitter, data):
    model = fitter.fresh()
    expected = torch.random.get_rng_state()
    model = fitter.fresh()
    start_from_head(model, fitter.task, fitter.labelled(data.train), fitter.pad_token_id)
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert model.training == fitter.fresh().training


def test_choices_are_left_as_they_are(fitter, data):
    model, task = fitter.fresh(), Classification(("0", "1"), "accuracy", choices=True)
    before = model.classifier.weight.clone()
    start_from_head(model, task, fitter.labelled(data.train), fitter.pad_token_id)
    assert torch.equal(model.classifier.weight, before)


def test_a_fitter_begins_as_it_is_told(fitter, data, tmp_path, monkeypatch):

    asked = []
    monkeypatch.setattr(module, "start_from_head", lambda *given: asked.append(given))

    labelled = fitter.labelled(data.train)
    for from_head in (False, True):
        fitter.from_head = from_head
        fitter.fit(HyperParameters(1e-3, 0, 0.01, 0.1, 32), labelled, labelled, folder=tmp_path / "c", max_epochs=1)
        assert len(asked) == int(from_head)
