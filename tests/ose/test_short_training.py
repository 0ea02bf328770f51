"""The error of a candidate: the right figure, from the same batches, whatever becomes of the training."""

from __future__ import annotations

import math
import pickle
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bort.data.corpus.build import build_corpus
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.checkpoints import load
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.ose.arguments import ExtractArguments
from bort.ose.logit_lesson import FreshTeacher, LogitLesson, MaskedRows
from bort.ose.plan import make_plan
from bort.ose.resolve import lesson_of, training_of
from bort.ose.short_training import Training, moved, train
from bort.ose.space import Shape
from bort.pretraining.distill.targets import LogitTargets
from bort.runs import Run


@pytest.fixture
def arguments(extraction) -> ExtractArguments:
    return extraction(steps=6, rows_per_step=4, row_length=24, held_out_rows=6, positions=64, valid_share=0.1)


@dataclass
class Made:
    """A lesson, and how candidates take it."""

    lesson: LogitLesson
    training: Training

    @property
    def held_out(self) -> PackedRows:
        return self.lesson.held_out.rows.rows

    def start(self, shape, seed=0):
        return self.lesson.start(Shape(*shape), seed)

    def train(self, shape, rate):
        return train(self.lesson, Shape(*shape), self.training, rate)


@pytest.fixture
def make(tiny_tokenizer, tmp_path):
    def make(arguments):
        settings = replace(
            arguments, corpus_cache=str(tmp_path / "corpus"), teacher_cache=str(tmp_path / "teacher"), resume=True
        )
        run = Run(tmp_path / "run", "extract", settings, resume=True, may_change=tuple(vars(settings)))
        plan = make_plan(settings, len(tiny_tokenizer))
        return Made(lesson_of(settings, plan, "logits", None, tiny_tokenizer, run), training_of(settings))

    return make


def test_the_error_is_the_cross_entropy_with_the_whole_distribution(arguments, make, world):
    made = make(arguments)
    lesson = made.lesson
    teacher = load(BortForMaskedLM, world.encoder).eval()
    model = made.start((1, 2, 16, 8)).eval()
    total, own, positions = 0.0, 0.0, 0
    for number in range(6):
        row = made.held_out[number]
        ids, labels = torch.from_numpy(row["input_ids"])[None], torch.from_numpy(row["labels"])
        with torch.no_grad():
            p, q = (m(input_ids=ids).logits[0, labels != IGNORED].log_softmax(-1).double() for m in (teacher, model))
        total -= float((p.exp() * q).sum())
        own -= float((p.exp() * p).sum())
        positions += len(p)
    # The teacher's outputs are kept in half precision.
    assert lesson.cross_entropy(model) == pytest.approx(total / positions, rel=1e-3)
    assert lesson.entropy == pytest.approx(own / positions, rel=1e-3)
    assert lesson.cross_entropy(teacher) == pytest.approx(lesson.entropy, rel=1e-3)


def test_a_small_vocabulary_is_learned_as_a_whole(arguments, make, monkeypatch):
    """Its least probable tokens are no samples of others."""
    monkeypatch.setattr("bort.ose.logit_lesson.TRAINING_TOP", 400)
    made = make(arguments)
    batch, model = made.lesson.training[0], made.start((1, 2, 16, 8)).eval()
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], labels=batch["labels"]).logits
    log_p, log_q = batch["log_p"].float(), logits.log_softmax(-1).gather(-1, batch["ids"])
    expected = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    assert made.lesson.loss(model, batch).item() == pytest.approx(expected, rel=1e-3)


def test_training_draws_a_candidate_to_its_teacher(arguments, make, world, tmp_path, tiny_tokenizer):
    from bort.model.checkpoints import save

    teacher = load(BortForMaskedLM, world.encoder)
    with torch.no_grad():
        teacher.cls.predictions.bias.copy_(2 * torch.randn(len(tiny_tokenizer)))
    save(teacher, tiny_tokenizer, tmp_path / "taught")
    made = make(replace(arguments, teacher=str(tmp_path / "taught"), steps=60, learning_rates=[2e-2]))
    before = made.lesson.cross_entropy(made.start((1, 2, 16, 8)))
    trained = made.train((1, 2, 16, 8), 2e-2)
    entropy = made.lesson.entropy
    assert entropy < trained.error < entropy + 0.6 * (before - entropy)
    assert trained.steps == 60


def test_every_candidate_sees_the_same_batches_in_the_same_order(arguments, make, monkeypatch):
    made = make(arguments)
    seen = []
    for place in ("short_training", "logit_lesson"):
        monkeypatch.setattr(
            f"bort.ose.{place}.moved", lambda batch, device: seen.append(moved(batch, device)) or seen[-1]
        )
    runs = []
    for shape in ((1, 1, 8, 8), (2, 2, 16, 24)):
        seen.clear()
        made.train(shape, 1e-3)
        runs.append(list(seen))
    assert len(runs[0]) == len(runs[1]) == 6 + 2  # the last two are held out
    for one, other in zip(*runs, strict=True):
        assert one.keys() == other.keys() >= {"input_ids", "labels", "ids", "log_p"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    first = torch.cat([b["input_ids"] for b in runs[0][:6]])
    assert len({tuple(row.tolist()) for row in first}) == 24  # no row comes twice where there are enough


def test_another_seed_has_other_weights_and_another_order_of_the_same_batches(arguments, make):
    made = make(arguments)
    assert sorted(made.training.again().order()) == list(made.training.order()) == list(range(6))
    assert list(made.training.again().order()) != list(range(6))
    one, other = (made.start((1, 1, 8, 8), seed).state_dict() for seed in (0, made.training.again().seed))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_same_again(arguments, make):
    made = make(arguments)
    torch.manual_seed(1)
    one = made.train((2, 2, 16, 24), 1e-3)
    torch.manual_seed(2)
    other = made.train((2, 2, 16, 24), 1e-3)
    assert one.error == other.error
    assert made.train((2, 2, 16, 24), 1e-2).error != one.error
    assert all(module.p == 0.1 for module in one.model.modules() if isinstance(module, torch.nn.Dropout))


def test_the_teacher_is_asked_once(arguments, make, monkeypatch):
    expected = make(arguments).train((1, 1, 8, 8), 1e-3).error
    monkeypatch.setattr("bort.ose.logit_lesson.LogitTargets.answers", lambda *_: pytest.fail("asked again"))
    assert make(arguments).train((1, 1, 8, 8), 1e-3).error == expected


def test_without_its_files_it_trains_the_same(arguments, make, tmp_path):
    made = make(arguments)
    expected = made.train((1, 1, 8, 8), 1e-3).error
    sent = pickle.dumps(made.lesson.in_memory())
    shutil.rmtree(tmp_path / "teacher")
    shutil.rmtree(tmp_path / "corpus")
    assert train(pickle.loads(sent), Shape(1, 1, 8, 8), made.training, 1e-3).error == expected


def test_a_training_that_diverges_is_told_as_such(arguments, make):
    trained = make(replace(arguments, optimizer="sgd")).train((1, 1, 8, 8), 1e38)
    assert math.isnan(trained.error)
    assert trained.steps < 6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_are_kept_within_bounds(arguments, make, optimizer):
    trained = make(replace(arguments, optimizer=optimizer, clip_weights=0.03)).train((1, 1, 8, 8), 1.0)
    assert max(float(weights.detach().abs().max()) for weights in trained.model.parameters()) <= 0.03 + 1e-9
    assert np.isfinite(trained.error)


def longer(config):
    def made(shape):
        found = config(shape)
        found.max_position_embeddings += 8
        return found

    return made


def test_a_maximum_point_with_random_weights_teaches(arguments, make):
    lesson = make(replace(arguments, teacher=None, maximum="2,2,16,24")).lesson
    teacher = FreshTeacher(Shape(2, 2, 16, 24), lesson.starts, 0)
    assert (teacher.model.config.num_hidden_layers, teacher.model.config.hidden_size) == (2, 16)
    assert lesson.cross_entropy(teacher.model) == pytest.approx(lesson.entropy, rel=1e-3)
    assert 0 < lesson.entropy <= math.log(400)
    wider = FreshTeacher(Shape(2, 2, 16, 24), replace(lesson.starts, config=longer(lesson.starts.config)), 0)
    keys = [LogitTargets(each, 4, 0, 1.0, "float16", 0).key for each in (teacher, wider)]
    assert keys[0] != keys[1], "other positions are other random weights"
    student = lesson.start(Shape(2, 2, 16, 24), 0)
    assert lesson.cross_entropy(student) > lesson.entropy  # other random weights


def test_few_rows_come_again(arguments, tiny_tokenizer, tmp_path):
    corpus = build_corpus(arguments.corpus, tiny_tokenizer, tmp_path / "corpus", valid_share=0.1)
    rows = MaskedRows(corpus, tiny_tokenizer, 4000, 2, 24, 6, 0.15, 0).rows("train")
    assert len(rows) == 8000
    assert rows.rows_per_epoch == rows.available < 8000


def test_a_corpus_without_a_held_out_row_is_refused(arguments, make, tmp_path, sentences):
    (tmp_path / "short.txt").write_text("\n".join(sentences[:6]), "utf-8")
    with pytest.raises(BortError, match=r"valid-share.*has no row of 24"):
        make(replace(arguments, corpus=[str(tmp_path / "short.txt")]))
