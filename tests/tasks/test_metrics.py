import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bort.errors import BortError
from bort.tasks.metrics import (
    METRICS,
    Score,
    classification_scores,
    confusion,
    primary_metric,
    regression_scores,
    resampled_classes,
    resampled_numbers,
)


def test_two_classes_by_hand():
    # Positive class: 2 hits, 1 miss (row 2), 1 false alarm (row 3); negative class: 2 hits.
    references = [1, 1, 1, 0, 0, 0]
    predictions = [1, 1, 0, 1, 0, 0]
    assert confusion(references, predictions, 2).tolist() == [[2, 1], [1, 2]]
    scores = classification_scores(references, predictions, num_labels=2)
    assert scores["accuracy"].value == pytest.approx(4 / 6)
    # F1 = 2 hits / (2 hits + misses + false alarms) = 4 / 6 for either class.
    assert scores["f1"].value == pytest.approx(4 / 6)
    assert scores["f1_positive"].value == pytest.approx(4 / 6)
    # (2 x 2 - 1 x 1) / sqrt(3 x 3 x 3 x 3) = 3 / 9.
    assert scores["matthews"].value == pytest.approx(1 / 3)


def test_three_classes_by_hand():
    references = [0, 0, 1, 1, 2, 2]
    predictions = [0, 1, 1, 1, 2, 0]
    assert confusion(references, predictions, 4).tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    scores = classification_scores(references, predictions, num_labels=4)
    assert set(scores) == {"accuracy", "f1", "matthews"}
    # F1 is 2/4, 4/5 and 2/3; class 3 occurs nowhere and does not count.
    assert scores["f1"].value == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    # c = 4 right of s = 6; predicted 2, 3, 1 times; true 2, 2, 2 times:
    # (4 x 6 - (4 + 6 + 2)) / sqrt((36 - 14) (36 - 12)) = 12 / sqrt(528).
    assert scores["matthews"].value == pytest.approx(12 / math.sqrt(528))


def test_regression_by_hand():
    # Off the means 2.5 and 3: (-1.5, -0.5, 0.5, 1.5) and (-2, 1, -1, 2): covariance 3 - 0.5 - 0.5 + 3 = 5,
    # squares 5 and 10: pearson 5 / sqrt(50). Ranks of the predictions 1, 3, 2, 4: squared differences 2,
    # spearman 1 - 6 x 2 / (4 x 15) = 0.8. Errors 0, 2, -1, 1: rmse sqrt(6 / 4).
    scores = regression_scores([1, 2, 3, 4], [1, 4, 2, 5])
    assert scores["pearson"].value == pytest.approx(5 / math.sqrt(50))
    assert scores["spearman"].value == pytest.approx(0.8)
    assert scores["rmse"].value == pytest.approx(math.sqrt(6 / 4))


def test_constant_predictions_score_zero():
    scores = classification_scores([0, 1, 1], [1, 1, 1], num_labels=2)
    assert scores["matthews"] == Score(0.0, 0.0, 0.0)
    assert regression_scores([1, 2, 3], [0.1, 0.1, 0.1])["pearson"] == Score(0.0, 0.0, 0.0)
    assert regression_scores([0.1], [7.0])["spearman"] == Score(0.0, 0.0, 0.0)
    assert regression_scores([0.1], [0.1])["rmse"] == Score(0.0, 0.0, 0.0)


def test_all_right():
    scores = classification_scores([0, 1] * 50, [0, 1] * 50, num_labels=2)
    assert all(score == Score(1.0, 1.0, 1.0) for score in scores.values())


def test_interval_against_the_binomial():
    # 800 right of 1,000: the normal interval is 0.8 +- 1.96 sqrt(0.8 x 0.2 / 1000) = 0.8 +- 0.0248.
    score = classification_scores([0] * 1000, [0] * 800 + [1] * 200, num_labels=2, resamples=5000)["accuracy"]
    assert score.low == pytest.approx(0.8 - 0.0248, abs=0.003)
    assert score.high == pytest.approx(0.8 + 0.0248, abs=0.003)


def test_seed_and_no_resamples():
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=(2, 50))
    first, again, other = (resampled_numbers(truth, guess, seed=n, resamples=9)["pearson"].tolist() for n in (1, 1, 2))
    assert first == again != other
    for score in regression_scores(truth.tolist(), guess.tolist(), resamples=0).values():
        assert score.low == score.value == score.high
    assert classification_scores([0, 1], [0, 0], num_labels=2, resamples=0)["accuracy"] == Score(0.5, 0.5, 0.5)


@st.composite
def labels(draw):
    num_labels = draw(st.integers(2, 5))
    rows = draw(st.lists(st.tuples(*[st.integers(0, num_labels - 1)] * 2), min_size=1, max_size=60))
    return num_labels, [row[0] for row in rows], [row[1] for row in rows]


@given(labels())
@settings(deadline=None)
def test_classification_properties(drawn):
    num_labels, truth, guess = drawn
    scores = classification_scores(truth, guess, num_labels=num_labels, resamples=50)
    for name, score in scores.items():
        assert (-1 if name == "matthews" else 0) <= score.low <= score.value <= score.high <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["accuracy"].value == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
        assert scores["f1"].value == pytest.approx(sklearn_metrics.f1_score(truth, guess, average="macro"))
        assert scores["matthews"].value == pytest.approx(sklearn_metrics.matthews_corrcoef(truth, guess), abs=1e-12)
        expected = sklearn_metrics.confusion_matrix(truth, guess, labels=range(num_labels))
    assert (confusion(truth, guess, num_labels) == expected).all()


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)  # labels and outputs are single precision
few = st.sampled_from([0.0, 0.1, 0.2, 0.3])


@given(st.one_of(*[st.lists(st.tuples(each, each), min_size=1, max_size=40) for each in (finite, few)]))
@example([(3.4e38, -3.4e38), (-3.4e38, 3.4e38)])
@example([(1e-45, 0.0), (0.0, 1e-45)])
@example([(1.0, 1.0), (1.0 + 2e-16, 3.0), (1.0, 2.0)])
@settings(deadline=None)
def test_regression_properties(rows):
    truth, guess = [row[0] for row in rows], [row[1] for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        scores = regression_scores(truth, guess, resamples=50)
    for name, score in scores.items():
        assert score.low <= score.value <= score.high  # false for NaN
        assert name == "rmse" or -1 <= score.low <= score.high <= 1


def rows_of_resamples(rows: int, count: int) -> list[np.ndarray]:
    """Draw the rows that `resampled_numbers` draws with seed 0, where all resamples fit in a chunk."""
    return list(np.random.default_rng(0).integers(rows, size=(count, rows)))


@pytest.mark.parametrize("decimals", [9, 0])
def test_resampled_correlations_are_those_of_scipy(decimals):
    rng = np.random.default_rng(5)
    # In order of the truth, as the bootstrap sorts them.
    truth = np.sort(rng.normal(size=40)).round(decimals)
    guess = (truth + rng.normal(size=40)).round(decimals)
    samples = resampled_numbers(truth, guess, seed=0, resamples=30)
    order = np.argsort(truth)
    for position, rows in enumerate(rows_of_resamples(40, 30)):
        one, two = truth[order][rows], guess[order][rows]
        assert samples["pearson"][position] == pytest.approx(stats.pearsonr(one, two)[0])
        assert samples["spearman"][position] == pytest.approx(stats.spearmanr(one, two)[0])
        assert samples["rmse"][position] == pytest.approx(math.sqrt(((one - two) ** 2).mean()))


def test_resampled_classes_are_spread_as_resampled_rows():
    # Counts of cells have the distribution of the rows' own resamples: compare means and deviations of 4,000 each.
    rng = np.random.default_rng(3)
    truth = rng.integers(3, size=60)
    guess = np.where(rng.random(60) < 0.6, truth, rng.integers(3, size=60))
    samples = resampled_classes(truth, guess, 3, seed=0, resamples=4000)
    for name, metric in [("accuracy", sklearn_metrics.accuracy_score), ("matthews", sklearn_metrics.matthews_corrcoef)]:
        drawn = [metric(truth[rows], guess[rows]) for rows in rng.integers(60, size=(400, 60))]
        assert samples[name].mean() == pytest.approx(np.mean(drawn), abs=0.02)
        assert samples[name].std() == pytest.approx(np.std(drawn), rel=0.15)


def test_many_labels_and_rows():
    rng = np.random.default_rng(0)
    truth = rng.integers(10, size=10_000)
    guess = np.where(rng.random(10_000) < 0.7, truth, rng.integers(10, size=10_000))
    scores = classification_scores(truth, guess, num_labels=10)
    # 0.7 + 0.3 / 10 are right; 1.96 sqrt(0.73 x 0.27 / 10,000) = 0.0087.
    assert scores["accuracy"].value == pytest.approx(0.73, abs=0.015)
    assert scores["accuracy"].high - scores["accuracy"].low == pytest.approx(2 * 0.0087, rel=0.15)


def test_primary_metric():
    assert primary_metric("classification") == "accuracy"
    assert primary_metric("regression") == "pearson"
    assert primary_metric("classification", "matthews") == "matthews"
    with pytest.raises(BortError, match=r"value 'rmse': the metric of a classification task must be one of accuracy"):
        primary_metric("classification", "rmse")


def test_tables_name_what_is_computed():
    assert set(METRICS["classification"]) == set(classification_scores([0, 1], [0, 1], num_labels=2))
    assert {*METRICS["regression"], "rmse"} == set(regression_scores([0, 1], [0, 1]))


@pytest.mark.parametrize(
    ("truth", "guess"), [([], []), ([0], [0, 1]), ([0, 2], [0, 0]), ([0, -1], [0, 0]), ([0.5], [0.5]), ([[0]], [[0]])]
)
def test_labels_out_of_range(truth, guess):
    with pytest.raises(ValueError, match=r"labels must|equally many"):
        classification_scores(truth, guess, num_labels=2)
    with pytest.raises(ValueError, match=r"labels must|equally many"):
        confusion(truth, guess, 2)


def test_numbers_out_of_range():
    with pytest.raises(BortError, match=r"value nan: predictions must be finite numbers; that of example 2 is not"):
        regression_scores([1, 2], [1, math.nan])
    for truth, guess in [([], []), ([1], [1, 2])]:
        with pytest.raises(ValueError, match=r"not empty|equally many"):
            regression_scores(truth, guess)
