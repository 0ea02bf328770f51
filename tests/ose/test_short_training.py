"""The error of a candidate: the right figure, from the same batches, whatever becomes of the training."""

from __future__ import annotations

import math
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from bort.data.corpus.build import build_corpus
from bort.errors import BortError
from bort.model.checkpoints import load
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.ose.arguments import ExtractArguments
from bort.ose.plan import make_plan
from bort.ose.short_training import new_model
from bort.ose.space import Shape
from bort.ose.targets import Targets


@pytest.fixture
def arguments(extraction) -> ExtractArguments:
    return extraction(steps=6, rows_per_step=4, row_length=24, held_out_rows=6, positions=64, valid_share=0.1)


@pytest.fixture
def targets(tiny_tokenizer, tmp_path):
    def make(arguments, folder="teacher"):
        corpus = build_corpus(arguments.corpus, tiny_tokenizer, tmp_path / "corpus", valid_share=0.1)
        plan = make_plan(arguments, len(tiny_tokenizer))
        return Targets(arguments, plan, corpus, tiny_tokenizer, tmp_path / folder)

    return make


def config(targets, shape):
    return targets.plan.costs.config(Shape(*shape))


def test_the_error_is_the_cross_entropy_with_the_whole_distribution(arguments, targets, world):
    made = targets(arguments)
    surrogate = made.surrogate()
    teacher = load(BortForMaskedLM, world.encoder).eval()
    model = new_model(config(made, (1, 2, 16, 8)), made.log_frequencies, 0).eval()
    total, own, positions = 0.0, 0.0, 0
    for number in range(6):
        row = made.held_out_rows[number]
        ids, labels = torch.from_numpy(row["input_ids"])[None], torch.from_numpy(row["labels"])
        with torch.no_grad():
            p, q = (m(input_ids=ids).logits[0, labels != IGNORED].log_softmax(-1).double() for m in (teacher, model))
        total -= float((p.exp() * q).sum())
        own -= float((p.exp() * p).sum())
        positions += len(p)
    # The teacher's outputs are kept in half precision.
    assert surrogate.cross_entropy(model) == pytest.approx(total / positions, rel=1e-3)
    assert surrogate.entropy() == pytest.approx(own / positions, rel=1e-3)
    assert surrogate.cross_entropy(teacher) == pytest.approx(surrogate.entropy(), rel=1e-3)


def test_training_draws_a_candidate_to_its_teacher(arguments, targets, world, tmp_path, tiny_tokenizer):
    from bort.model.checkpoints import save

    teacher = load(BortForMaskedLM, world.encoder)
    with torch.no_grad():
        teacher.cls.predictions.bias.copy_(2 * torch.randn(len(tiny_tokenizer)))
    save(teacher, tiny_tokenizer, tmp_path / "taught")
    settings = replace(arguments, teacher=str(tmp_path / "taught"), steps=60, learning_rates=[2e-2])
    made = targets(settings)
    surrogate = made.surrogate()
    shape = config(made, (1, 2, 16, 8))
    before = surrogate.cross_entropy(new_model(shape, made.log_frequencies, 0))
    trained = surrogate.train(shape, 2e-2)
    entropy = surrogate.entropy()
    assert entropy < trained.cross_entropy < entropy + 0.6 * (before - entropy)
    assert trained.steps == 60


def test_every_candidate_sees_the_same_batches_in_the_same_order(arguments, targets, monkeypatch):
    surrogate = targets(arguments).surrogate()
    seen = []
    moved = surrogate._moved
    monkeypatch.setattr(surrogate, "_moved", lambda batch: seen.append(moved(batch)) or seen[-1])
    made = targets(arguments)
    runs = []
    for shape in ((1, 1, 8, 8), (2, 2, 16, 24)):
        seen.clear()
        surrogate.train(config(made, shape), 1e-3)
        runs.append(list(seen))
    assert len(runs[0]) == len(runs[1]) == 6 + 2  # the last two are held out
    for one, other in zip(*runs, strict=True):
        assert one.keys() == other.keys() >= {"input_ids", "labels", "ids", "log_p"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    first = torch.cat([b["input_ids"] for b in runs[0][:6]])
    assert len({tuple(row.tolist()) for row in first}) == 24  # no row comes twice where there are enough


def test_the_same_again(arguments, targets):
    made = targets(arguments)
    surrogate = made.surrogate()
    shape = config(made, (2, 2, 16, 24))
    torch.manual_seed(1)
    one = surrogate.train(shape, 1e-3)
    torch.manual_seed(2)
    other = surrogate.train(shape, 1e-3)
    assert one.cross_entropy == other.cross_entropy
    assert surrogate.train(shape, 1e-2).cross_entropy != one.cross_entropy
    assert all(module.p == 0.1 for module in one.model.modules() if isinstance(module, torch.nn.Dropout))


def test_the_teacher_is_asked_once(arguments, targets, monkeypatch):
    first = targets(arguments).surrogate()
    shape = (1, 1, 8, 8)
    expected = first.train(config(targets(arguments), shape), 1e-3).cross_entropy
    monkeypatch.setattr("bort.ose.targets.LogitTargets.answers", lambda *_: pytest.fail("asked again"))
    made = targets(arguments)
    assert made.surrogate().train(config(made, shape), 1e-3).cross_entropy == expected


def test_without_its_files_it_trains_the_same(arguments, targets, tmp_path):
    made = targets(arguments)
    surrogate, shape = made.surrogate(), config(made, (1, 1, 8, 8))
    expected = surrogate.train(shape, 1e-3).cross_entropy
    sent = pickle.dumps(surrogate.in_memory())
    shutil.rmtree(tmp_path / "teacher")
    shutil.rmtree(tmp_path / "corpus")
    assert pickle.loads(sent).train(shape, 1e-3).cross_entropy == expected


def test_a_training_that_diverges_is_told_as_such(arguments, targets):
    made = targets(replace(arguments, optimizer="sgd"))
    trained = made.surrogate().train(config(made, (1, 1, 8, 8)), 1e38)
    assert math.isnan(trained.cross_entropy)
    assert trained.steps < 6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_are_kept_within_bounds(arguments, targets, optimizer):
    made = targets(replace(arguments, optimizer=optimizer, clip_weights=0.03))
    trained = made.surrogate().train(config(made, (1, 1, 8, 8)), 1.0)
    assert max(float(weights.detach().abs().max()) for weights in trained.model.parameters()) <= 0.03 + 1e-9
    assert np.isfinite(trained.cross_entropy)


def test_a_maximum_point_with_random_weights_teaches(arguments, targets):
    made = targets(replace(arguments, teacher=None, maximum="2,2,16,24"))
    teacher = made.teacher
    assert (teacher.model.config.num_hidden_layers, teacher.model.config.hidden_size) == (2, 16)
    surrogate = made.surrogate()
    assert 0 < surrogate.entropy() <= math.log(400)
    student = new_model(config(made, (2, 2, 16, 24)), made.log_frequencies, 0)
    assert surrogate.cross_entropy(student) > surrogate.entropy()  # other random weights


def test_few_rows_come_again(arguments, targets):
    made = targets(replace(arguments, steps=4000, rows_per_step=2))
    assert len(made.training_rows) == 8000
    assert made.training_rows.rows_per_epoch == made.training_rows.available < 8000


def test_a_corpus_without_a_held_out_row_is_refused(arguments, targets, tmp_path, sentences):
    (tmp_path / "short.txt").write_text("\n".join(sentences[:6]), "utf-8")
    with pytest.raises(BortError, match=r"valid-share.*has no row of 24"):
        targets(replace(arguments, corpus=[str(tmp_path / "short.txt")]))
