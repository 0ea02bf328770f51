"""Folds and the linear head: pure functions of their data."""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.finetuning import linear_head
from bort.finetuning.folds import assign_folds
from bort.finetuning.linear_head import LinearHead, fit_linear_head, loss_of, score_of
from bort.model.pair_features import pair_features
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

CLASSES = Classification(("a", "b", "c"), "accuracy")
TWO = Classification(("a", "b"), "accuracy")
VALUES = Regression((), "pearson")

labelled = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=2, max_size=40)


@given(labelled, st.integers(2, 6), st.integers(0, 3))
def test_folds_keep_equal_texts_together_and_the_same_for_a_seed(rows, count, seed):
    targets, groups = np.array([label for label, _ in rows]), [text for _, text in rows]
    folds = assign_folds(targets, groups, count=count, seed=seed)
    assert folds.tolist() == assign_folds(targets, groups, count=count, seed=seed).tolist()
    assert len({*folds.tolist()}) >= 2
    assert folds.max() < count
    if len({*groups}) > 1:
        assert len({*zip(groups, folds.tolist(), strict=True)}) == len({*groups})


@given(st.lists(st.integers(5, 12), min_size=2, max_size=4), st.integers(0, 3))
def test_folds_spread_each_class_evenly(counts, seed):
    targets = np.repeat(np.arange(len(counts)), counts)
    folds = assign_folds(targets, seed=seed)
    for label in range(len(counts)):
        each = np.bincount(folds[targets == label], minlength=5)
        assert each.max() - each.min() <= 1


def test_folds_of_values_hold_small_and_large_ones():
    values = np.arange(50, dtype=np.float32)
    folds = assign_folds(values)
    assert all(10 < values[folds == fold].mean() < 40 for fold in range(5))
    assert np.bincount(folds).tolist() == [10] * 5


def test_one_example_cannot_be_folded():
    with pytest.raises(ValueError, match="two examples"):
        assign_folds(np.array([1]))


def blobs(task, rows=60, width=6, noise=0.4, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(rows) % task.outputs)
    good = rng.normal(size=(task.outputs, width))[targets] + noise * rng.normal(size=(rows, width))
    return {"noise": rng.normal(size=(rows, width)), "good": (3 + 7 * good).astype(np.float32)}, targets


@pytest.mark.parametrize("task", [CLASSES, TWO])
def test_the_pooling_that_tells_the_classes_apart_is_chosen(task):
    features, targets = blobs(task)
    head = fit_linear_head(features, targets, task)
    assert head.pooling == "good"
    assert head.score > 0.9
    assert score_of(task, head.out_of_fold, targets) == head.score
    says = head.says(features)
    np.testing.assert_allclose(np.exp(says).sum(1), 1)
    assert score_of(task, says, targets) >= head.score


def test_out_of_fold_answers_do_not_know_their_own_label():
    """Of noise a fitted head knows its examples by heart; out of fold it must not be better than chance."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    head = fit_linear_head({"noise": rng.normal(size=(200, 300))}, targets, TWO)
    assert score_of(TWO, head.says({"noise": rng.normal(size=(200, 300))}), targets) < 0.65
    assert head.score < 0.65


def test_of_very_many_examples_a_sample_is_fitted_and_the_others_are_answered_for(monkeypatch):
    features, targets = blobs(TWO)
    doubled = {name: np.repeat(x, 2, axis=0) for name, x in features.items()}
    monkeypatch.setattr(linear_head, "MOST_FITTED", 40)
    places = linear_head.fitted_places(120)
    names = np.arange(120) // 2  # each text is there twice
    head = fit_linear_head(doubled, np.repeat(targets, 2), TWO, groups=names.tolist())
    some = {name: x[places] for name, x in doubled.items()}
    alone = fit_linear_head(some, np.repeat(targets, 2)[places], TWO, groups=names[places].tolist())
    np.testing.assert_array_equal(head.weight, alone.weight)
    assert (len(head.folds), head.score) == (40, alone.score)
    np.testing.assert_array_equal(head.out_of_fold[places], alone.out_of_fold)
    np.testing.assert_array_equal(head.out_of_fold[::2], head.out_of_fold[1::2])  # also of a copy that was left out
    others = ~np.isin(names, names[places])
    np.testing.assert_array_equal(head.out_of_fold[others], head.says(doubled)[others])


def test_ties_go_to_the_loss():
    features, targets = blobs(TWO, noise=0.01)
    head = fit_linear_head({"good": features["good"], "also": 2 * features["good"]}, targets, TWO)
    assert (head.score, head.pooling) == (1.0, "good")
    assert head.inverse_regularisation == 1000.0
    assert head.loss == loss_of(TWO, head.out_of_fold, targets)


def test_values_are_fitted_in_their_unit():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4))
    targets = (100 + x @ [1.0, -2.0, 3.0, 0.5] + 0.1 * rng.normal(size=80)).astype(np.float32)
    head = fit_linear_head({"x": x, "noise": rng.normal(size=(80, 4))}, targets, VALUES)
    assert head.pooling == "x"
    np.testing.assert_allclose(head.says({"x": x})[:, 0], targets, atol=0.5)
    assert head.out_of_fold.shape == (80, 1)
    assert head.loss < 0.05


def test_a_class_without_an_example_is_never_the_answer():
    features, targets = blobs(TWO)
    head = fit_linear_head(features, targets, CLASSES)
    assert np.isneginf(head.says(features)[:, 2]).all()
    assert np.isfinite(head.loss)


@pytest.mark.parametrize("targets", [[0, 1], [0, 1, 2], [0, 0, 0, 1], [1, 1], [0, 1, 1, 2, 2]])
def test_few_examples_a_class_are_enough(targets):
    x = np.random.default_rng(0).normal(size=(len(targets), 5))
    head = fit_linear_head({"x": x}, np.array(targets), CLASSES)
    assert {*head.says({"x": x}).argmax(-1).tolist()} <= {*targets}
    assert np.isfinite(head.loss)


def test_the_same_data_give_the_same_head_whatever_the_threads():
    from threadpoolctl import threadpool_limits

    features, targets = blobs(CLASSES, rows=200, width=300, noise=2.0)

    def fitted(threads: int) -> LinearHead:
        with threadpool_limits(threads, user_api="blas"):
            return fit_linear_head(features, targets, CLASSES)

    one, two = fitted(1), fitted(2)
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.out_of_fold.tobytes() == two.out_of_fold.tobytes()


def test_many_examples_are_chosen_by_a_part_and_all_are_answered(monkeypatch):
    from bort.finetuning import linear_head

    monkeypatch.setattr(linear_head, "_MOST_TO_CHOOSE_BY", 20)
    features, targets = blobs(CLASSES, rows=90)
    head = fit_linear_head(features, targets, CLASSES)
    assert head.out_of_fold.shape == (90, 3)
    assert score_of(CLASSES, head.out_of_fold, targets) == head.score > 0.8


def test_features_of_pairs():
    a, b = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, -1.0]], np.float32)
    assert pair_features(a, b).tolist() == [[1, 2, 3, -1, 2, 3, 3, -2, 3]]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_too_little_memory_is_an_error_and_no_endless_loop():
    """OpenBLAS would ask for its buffer for ever."""
    rng = np.random.default_rng(0)
    features, targets = {"mean": rng.normal(size=(40, 16))}, rng.integers(0, 3, 40)
    from sklearn.linear_model import LogisticRegression

    assert LogisticRegression  # it is loaded while there is memory
    process = os.fork()
    if not process:
        status = 70
        try:
            faulthandler.dump_traceback_later(60, exit=True)
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + (16 << 20),) * 2)
            fit_linear_head(features, targets, CLASSES)
        except MemoryError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_balanced_rare_classes_count_as_much_as_frequent_ones():
    """As if the rare examples were repeated until they are as many."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], [90, 10])
    x = rng.normal(size=(100, 3)) + targets[:, None]
    plain, balanced = (fit_linear_head({"x": x}, targets, TWO, balance=balance) for balance in (False, True))
    found = (balanced.says({"x": x}).argmax(-1) == 1).sum()
    assert found > (plain.says({"x": x}).argmax(-1) == 1).sum()
    assert (balanced.out_of_fold.argmax(-1) == 1).sum() > (plain.out_of_fold.argmax(-1) == 1).sum(), "in the folds too"
    assert balanced.score == score_of(TWO, balanced.out_of_fold, targets), "the score is not weighted"


def test_balanced_labels_have_the_weights_of_fine_tuning():
    """Weights of 2 / 3 and 2, see `class_weights`: an optimum has no slope in the bias."""
    rng = np.random.default_rng(0)
    targets = np.zeros((80, 2), np.float32)
    targets[:60, 0], targets[:20, 1] = 1, 1
    x, task = rng.normal(size=(80, 3)), MultiLabel(("a", "b"), "f1_micro")
    head = fit_linear_head({"x": x}, targets, task, balance=True)
    off = (task.activate(head.says({"x": x})) - targets) * np.where(targets > 0, [2 / 3, 2.0], 1.0)
    np.testing.assert_allclose(off.sum(0), 0, atol=1e-2)


def test_values_have_no_classes_to_balance():
    x = np.random.default_rng(0).normal(size=(20, 2))
    heads = [
        fit_linear_head({"x": x}, x[:, 0].astype(np.float32), VALUES, balance=balance) for balance in (False, True)
    ]
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)
