"""The benchmarks' metrics, on predictions made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression
from bort.tasks.suites.casting import CastRow
from bort.tasks.suites.scoring import (
    aligned,
    answers,
    exact_match,
    gender_parity,
    normalized,
    official_scores,
    shown,
    task_score,
    token_f1,
)
from bort.tasks.suites.table import TASKS


def ask(name: str, truth: list, guesses: list, idx: list[tuple] | None = None, **score) -> dict[str, float]:
    """Score guesses: the metric's values."""
    task = TASKS[name]
    places = idx or [(i,) for i in range(len(truth))]
    rows = [CastRow(Example("a", "b", label), place) for label, place in zip(truth, places, strict=True)]
    if task.labels:
        logits = np.array([[float(label == guess) for label in task.labels] for guess in guesses], np.float32)
    else:
        logits = np.array([[guess] for guess in guesses], np.float32)
    found = official_scores(task, rows, logits, **{"resamples": 0} | score)
    assert tuple(found) == task.metrics
    return {metric: each.value for metric, each in found.items()}


def test_cola_matthews():
    # 3 true and 1 false positives, 2 true and 1 false negatives: (3 * 2 - 1 * 1) / sqrt(4 * 4 * 3 * 3) = 5 / 12
    truth = ["1"] * 4 + ["0"] * 3
    assert ask("cola", truth, ["1", "1", "1", "0", "0", "0", "1"]) == {"matthews": pytest.approx(5 / 12)}


@pytest.mark.parametrize("name", ["mrpc", "qqp"])
def test_mrpc_and_qqp_f1_of_the_positives_then_accuracy(name):
    # 2 true positives, 1 false positive, 1 false negative, 1 true negative: F1 4 / 6, accuracy 3 / 5
    scores = ask(name, ["1", "1", "1", "0", "0"], ["1", "1", "0", "1", "0"])
    assert scores == {"f1_positive": pytest.approx(2 / 3), "accuracy": pytest.approx(0.6)}
    assert list(scores) == ["f1_positive", "accuracy"]
    assert task_score(TASKS[name], scores) == pytest.approx((2 / 3 + 0.6) / 2)
    assert shown(TASKS[name], scores) == "66.7/60.0"


def test_stsb_correlations():
    truth, guess = [0.0, 1.0, 2.0, 5.0], [1.0, 2.0, 0.5, 4.0]
    scores = ask("stsb", truth, guess)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(truth, guess)[0])
    # ranks 1 2 3 4 and 2 3 1 4: 1 - 6 * (1 + 1 + 4) / (4 * 15) = 0.4
    assert scores["spearman"] == pytest.approx(0.4)


def test_stsb_answers_stay_between_0_and_5():
    rows = [CastRow(Example("a", "b"), (i,)) for i in range(3)]
    assert answers(TASKS["stsb"], rows, np.array([[-1.0], [2.5], [7.0]], np.float32)) == [0.0, 2.5, 5.0]


def test_cb_macro_f1_and_accuracy():
    # entailment 2 of 2, and 1 neutral taken for it: F1 4 / 5; contradiction 1 of 1: 1; neutral 0 of 1: 0
    truth = ["entailment", "entailment", "contradiction", "neutral"]
    guess = ["entailment", "entailment", "contradiction", "entailment"]
    assert ask("cb", truth, guess) == {"f1": pytest.approx((0.8 + 1 + 0) / 3), "accuracy": 0.75}


def test_multirc_f1a_over_answers_and_exact_match_over_questions():
    # passage 0: question 0 wholly right, question 1 with one wrong; passage 1: a question 0 of its own, right
    idx = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3), (1, 2, 4)]
    scores = ask("multirc", ["1", "0", "1", "0", "1"], ["1", "0", "1", "1", "1"], idx)
    # 3 true positives, 1 false positive: F1a 6 / 7; 2 of 3 questions
    assert scores == {"f1a": pytest.approx(6 / 7), "em": pytest.approx(2 / 3)}


def record_rows(candidates: dict[int, list[str]], right: dict[int, tuple[str, ...]]) -> list[CastRow]:
    return [
        CastRow(Example("p", f"{c} came", str(int(c in right[q]))), (0, q), c, right[q])
        for q, names in candidates.items()
        for c in names
    ]


def test_record_takes_the_best_scoring_entity_and_scores_normalised_answers():
    rows = record_rows({1: ["Ann Lee", "Bob"], 2: ["Rome", "the U.S."]}, {1: ("Ann",), 2: ("The US", "America")})
    logits = np.array([[0.0, 2.0], [0.0, 1.0], [3.0, 1.0], [3.0, 2.5]], np.float32)
    assert answers(TASKS["record"], rows, logits) == ["Ann Lee", "the U.S."]
    scores = official_scores(TASKS["record"], rows, logits, resamples=0)
    # "Ann Lee" shares one of its two words with "Ann": F1 2 / 3, no match; "the U.S." is "The US" once normalised
    assert scores["token_f1"].value == pytest.approx((2 / 3 + 1) / 2)
    assert scores["em"].value == 0.5


def test_the_released_slip_of_record_is_not_ours():
    """The first of several accepted entities may be the best; the release never compares them."""
    rows = record_rows({1: ["a", "b", "c"]}, {1: ("a",)})
    logits = np.array([[0.0, 9.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    assert answers(TASKS["record"], rows, logits) == ["a"]


@pytest.mark.parametrize(
    ("given", "right", "f1"),
    [
        ("The cat", "cat", 1.0),
        ("a b", "b c", 2 / 3),  # an article, so one word against two, one of them in common
        ("x", "y", 0.0),
        ("b b c", "b c c", 2 / 3),  # b and c once each in common, of three
    ],
)
def test_token_f1(given, right, f1):
    assert token_f1(given, right) == pytest.approx(f1)


def test_normalised_answers():
    assert normalized(" The  U.S. president's an-swer ") == "us presidents answer"
    assert exact_match("The Beatles!", "beatles")
    assert not exact_match("Beatles", "Beatle")


def winogender(hypotheses: list[str], pairs: list[int | None] | None = None) -> list[CastRow]:
    numbers = pairs or [None] * len(hypotheses)
    return [
        CastRow(Example("p", hypothesis, "entailment", "f", i), (i,), pair=pair)
        for i, (hypothesis, pair) in enumerate(zip(hypotheses, numbers, strict=True))
    ]


def test_gender_parity_is_the_share_of_pairs_with_one_answer():
    rows = winogender(["a", "a", "b", "b", "c", "c"])
    e, n = "entailment", "not_entailment"
    assert gender_parity(rows, [e, e, e, n, n, n]).value == pytest.approx(2 / 3)
    logits = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    scores = official_scores(TASKS["axg"], rows, logits, resamples=50)
    assert scores["parity"].value == pytest.approx(2 / 3)
    assert scores["accuracy"].value == 0.5
    assert 0 <= scores["parity"].low <= scores["parity"].value <= scores["parity"].high <= 1


def test_gender_parity_wants_pairs():
    with pytest.raises(BortError, match="hypothesis of the other row of its pair"):
        gender_parity(winogender(["a", "b"]), ["x", "x"])
    with pytest.raises(BortError, match="even number"):
        gender_parity(winogender(["a", "a", "b"]), ["x", "x", "x"])


def test_gender_parity_goes_by_the_number_of_the_pair():
    e, n = "entailment", "not_entailment"
    apart = winogender(["a", "b", "b", "a"], [7, 8, 8, 7])
    assert gender_parity(apart, [e, n, n, n]).value == 0.5
    # a number for each row names no pairs: neighbours are
    assert gender_parity(winogender(["a", "a", "b", "b"], [0, 1, 2, 3]), [e, e, e, n]).value == 0.5
    with pytest.raises(BortError, match=r"f:2: column 'pair_id': value 7: must be the pair_id of two rows, not of 3"):
        gender_parity(winogender(["a", "a", "a", "b"], [7, 7, 7, 8]), [e, e, e, e])
    with pytest.raises(BortError, match=r"f:1: column 'hypothesis': value 'b'"):
        gender_parity(winogender(["a", "b"], [7, 7]), [e, e])


def test_rows_without_labels_are_not_scored():
    with pytest.raises(BortError, match="must not be missing"):
        ask("cola", [None], ["1"])


def test_outputs_in_another_order_are_put_in_ours():
    model = Classification(("not_entailment", "entailment"), "accuracy")
    logits = np.array([[1.0, 2.0]], np.float32)
    assert aligned(TASKS["rte"], model, logits).tolist() == [[2.0, 1.0]]
    with pytest.raises(BortError, match=r"CB needs a model that answers with entailment, contradiction, neutral"):
        aligned(TASKS["cb"], model, logits)
    with pytest.raises(BortError, match=r"STS-B needs a model that answers with a number"):
        aligned(TASKS["stsb"], model, logits)
    regression = Regression((), "pearson")
    assert aligned(TASKS["stsb"], regression, logits[:, :1]).tolist() == [[1.0]]
