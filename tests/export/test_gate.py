"""The gate: exact bounds of what int8 loses, and three outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.data import set_apart
from bort.export.gate import drop_bounds, judge, movement, rows_to_decide
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression

NAMES = ("a", "b")
TASK = Classification(NAMES, "accuracy")


def answers(classes) -> np.ndarray:
    return np.where(np.eye(2)[np.asarray(classes)] > 0, 2.0, -2.0).astype(np.float32)


def judged(rows, lost, won, max_drop=0.5, task=TASK):
    """Some rows that fp32 alone answers rightly, and some that int8 alone does."""
    before, after = np.zeros(rows, int), np.zeros(rows, int)
    after[:lost], before[lost : lost + won] = 1, 1
    examples = [Example(f"text {n}", label="a", source="g.csv", line=n + 2) for n in range(rows)]
    return judge(task, answers(before), answers(after), examples, max_drop)


def test_bounds_by_hand():
    """With nothing lost of n, the bound of Clopper and Pearson at 2.5 % is 1 - 0.025^(1/n)."""
    low, high = drop_bounds(0, 0, 1000)
    assert high == pytest.approx(100 * (1 - 0.025 ** (1 / 1000)))
    assert low == pytest.approx(-high)
    low, high = drop_bounds(10, 0, 10)
    assert (low, high) == (pytest.approx(100 * (0.025**0.1 - (1 - 0.025**0.1))), 100.0)


@given(st.integers(1, 400), st.data())
def test_bounds_hold_what_was_seen(rows, data):
    lost = data.draw(st.integers(0, rows))
    won = data.draw(st.integers(0, rows - lost))
    low, high = drop_bounds(lost, won, rows)
    assert low <= 100 * (lost - won) / rows <= high
    assert (-high, -low) == pytest.approx(drop_bounds(won, lost, rows))


def test_models_that_lose_two_points_seldom_pass():
    """On any number of rows at most one in twenty, where the comparison of means passed 22 % of them on 100 rows."""
    rng = np.random.default_rng(0)
    for rows in (100, 400, 1500):
        drawn = rng.multinomial(rows, [0.03, 0.01, 0.96], 400)
        passed = sum(drop_bounds(lost, won, rows)[1] <= 0.5 for lost, won, _ in drawn)
        assert passed <= 0.05 * len(drawn)


@pytest.mark.parametrize(
    ("rows", "lost", "won", "outcome"),
    [(100, 0, 0, "undecided"), (1000, 0, 0, "passed"), (1000, 40, 1, "failed"), (100, 2, 0, "undecided")],
)
def test_outcomes(rows, lost, won, outcome):
    verdict = judged(rows, lost, won)
    assert verdict.outcome == outcome
    assert verdict.passed == (outcome == "passed")
    assert verdict.drop == pytest.approx(100 * (lost - won) / rows)
    assert len(verdict.lost) == lost
    assert outcome in verdict.told
    assert (verdict.rows_to_decide is not None) == (outcome == "undecided")
    if outcome == "undecided":
        needed = verdict.rows_to_decide
        assert f"{needed:,} rows would decide" in verdict.told
        scale = needed / rows
        low, high = drop_bounds(scale * lost, scale * won, needed)
        assert high <= 0.5 or low > 0.5
        low, high = drop_bounds(0.97 * scale * lost, 0.97 * scale * won, 0.97 * needed)
        assert low <= 0.5 < high, "a tenth fewer would not do"


def test_no_number_of_rows_decides_on_the_border():
    assert rows_to_decide(5, 0, 1000, 0.5) is None
    assert "more rows may decide" in judged(1000, 5, 0).told


def test_another_metric_judges_by_itself():
    """Of rare positives all are lost: little accuracy, all of F1."""
    rows, rare = 4000, 8
    targets = np.r_[np.ones(rare, int), np.zeros(rows - rare, int)]
    examples = [Example(f"text {n}", label=NAMES[label]) for n, label in enumerate(targets)]
    before, after = answers(targets), answers(np.zeros(rows, int))
    by_accuracy = judge(TASK, before, after, examples, 0.5)
    by_f1 = judge(Classification(NAMES, "f1_positive"), before, after, examples, 0.5)
    assert by_accuracy.passed
    assert by_f1.outcome == "failed"
    assert (by_f1.fp32, by_f1.int8, by_f1.rows_to_decide) == (100, 0, None)


def test_a_regression_of_which_less_is_better():
    rng = np.random.default_rng(0)
    examples = [Example("a", label=float(n)) for n in range(300)]
    exact = np.arange(300, dtype=np.float32)[:, None] + rng.normal(0, 0.1, (300, 1)).astype(np.float32)
    worse = exact + rng.normal(0, 1, (300, 1)).astype(np.float32)
    task = Regression((), "rmse")
    assert judge(task, exact, worse, examples, 1.0).outcome == "failed"
    assert judge(task, worse, exact, examples, 1.0).outcome == "passed"
    assert judge(task, exact, worse, examples, 1.0).drop > 0 > judge(task, worse, exact, examples, 1.0).drop
    assert movement(task, exact, worse) == pytest.approx(np.abs(exact - worse).mean())


@pytest.mark.parametrize("rows", [1, 10, 29, 30])
def test_a_regression_of_few_rows_is_undecided(rows):
    """Rows that all lose nothing would pass in any bootstrap, and rows that all lose much would fail."""
    examples = [Example("a", label=float(n)) for n in range(rows)]
    exact = np.arange(rows, dtype=np.float32)[:, None]
    task = Regression((), "rmse")
    same, worse = (judge(task, exact, other, examples, 1.0) for other in (exact, exact + 9))
    assert (same.passed, worse.outcome) == ((True, "failed") if rows >= 30 else (False, "undecided"))
    assert ("a regression needs at least 30 rows" in same.told) == (rows < 30)


def test_each_bound_is_told_with_its_confidence():
    assert "in truth -0.37 to 0.37, each bound with 95% confidence; at most 0.5 are allowed" in judged(1000, 0, 0).told


def test_movement_of_probabilities():
    logits = np.log(np.array([[0.9, 0.1], [0.5, 0.5]], np.float32))
    other = np.log(np.array([[0.8, 0.2], [0.5, 0.5]], np.float32))
    assert movement(TASK, logits, other) == pytest.approx(0.05)
    assert judged(10, 0, 0).moved == 0
    assert judged(10, 5, 0).moved > 0.1


TEXTS = st.lists(st.sampled_from("abcdefgh").map(lambda text: Example(text, label="a")), max_size=20)


@given(TEXTS, TEXTS)
@example([Example(text, label="a") for text in "aaaaaaab"], [])
def test_nothing_both_judges_and_calibrates(gate, texts):
    if gate and len({row.text for row in gate}) == 1 and not {t.text for t in texts} - {gate[0].text}:
        with pytest.raises(BortError, match="two different texts"):
            set_apart(gate, texts)
        return
    judging, calibrating = set_apart(gate, texts)
    if gate:
        assert judging
        assert calibrating
        assert not {row.text for row in judging} & {text.text for text in calibrating}
        assert {row.text for row in judging} <= {row.text for row in gate}
    else:
        assert (judging, calibrating) == ([], texts)
