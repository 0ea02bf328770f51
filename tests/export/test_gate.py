"""The gate: exact bounds of what int8 loses, and three outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export import gate
from bort.export.data import set_apart
from bort.export.gate import drop_bounds, judge, movement, rows_to_decide
from bort.export.row_costs import costliest_row
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
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


@pytest.mark.parametrize("metric", ["f1", "f1_positive", "matthews"])
def test_models_that_lose_a_rare_class_seldom_pass(monkeypatch, metric):
    """A bound on the share of lost rows let 23 of 60 pass that lost 9 points of macro F1."""
    monkeypatch.setattr(gate, "_RESAMPLES", 40)
    rng, task, passed = np.random.default_rng(0), Classification(NAMES, metric), 0
    for _ in range(20):
        targets = (rng.random(1000) < 0.003).astype(int)
        after = np.where(rng.random(1000) < 0.3, 0, targets)
        examples = [Example("a", label=NAMES[target]) for target in targets]
        passed += judge(task, answers(targets), answers(after), examples, 0.5).passed
    assert passed <= 1


@pytest.mark.parametrize("metric", ["f1", "f1_positive"])
def test_models_that_lose_as_much_as_is_allowed_seldom_pass_and_equal_ones_do(monkeypatch, metric):
    """Of 800 rows, half of each class, 1 % are lost at random."""
    monkeypatch.setattr(gate, "_RESAMPLES", 50)
    rng, task, targets = np.random.default_rng(0), Classification(NAMES, metric), np.arange(800) % 2
    examples = [Example("a", label=NAMES[target]) for target in targets]
    passed = 0
    for _ in range(25):
        after = np.where(rng.random(800) < 0.01, 1 - targets, targets)
        passed += judge(task, answers(targets), answers(after), examples, 0.99).passed
    assert passed <= 2
    assert judge(task, answers(targets), answers(targets), examples, 0.5).passed


def test_a_class_without_rows_cannot_pass():
    examples = [Example("a", label="a")] * 2000
    same = answers(np.zeros(2000, int))
    verdict = judge(Classification(NAMES, "f1"), same, same, examples, 0.5)
    assert verdict.outcome == "undecided"
    assert verdict.told.endswith("more rows may decide, above all of rare labels")


@pytest.mark.parametrize(("metric", "outcome"), [("f1_macro", "undecided"), ("f1_micro", "passed")])
def test_a_rare_label_decides_where_labels_have_the_same_weight(metric, outcome):
    targets = np.zeros((1000, 2), np.float32)
    targets[::2, 0], targets[:5, 1] = 1, 1
    task = MultiLabel(NAMES, metric, thresholds=(0.5, 0.5))
    examples = [Example("a", label=tuple(np.array(NAMES)[row > 0].tolist())) for row in targets]
    same = (4 * targets - 2).astype(np.float32)
    assert judge(task, same, same, examples, 1.0).outcome == outcome


def test_exact_match_has_exact_bounds():
    """Of 1,000 rows, one loses both labels, and another, which was wrong before, a second one."""
    before, after = np.full((2, 1000, 2), 2.0, np.float32)
    before[1, 0], after[0], after[1] = -2, -2, -2
    task = MultiLabel(NAMES, "exact_match", thresholds=(0.5, 0.5))
    verdict = judge(task, before, after, [Example("a", label=NAMES)] * 1000, 0.5)
    assert (verdict.low, verdict.high) == drop_bounds(1, 0, 1000)
    assert verdict.rows_to_decide == rows_to_decide(1, 0, 1000, 0.5)


@pytest.mark.parametrize("metric", ["f1", "f1_positive", "matthews"])
def test_the_cost_of_a_row_is_what_the_metric_loses(metric):
    task, targets = Classification(NAMES, metric), np.array([0] * 900 + [1] * 100)
    outputs = answers(np.where(np.arange(1000) % 20 == 0, 1 - targets, targets))
    changed = outputs.copy()
    changed[999] = changed[999, ::-1]
    lost = (gate._points(task, outputs, targets) - gate._points(task, changed, targets)) / 100
    assert costliest_row(task, outputs, targets) == pytest.approx(lost, rel=0.05)


@pytest.mark.parametrize("metric", ["f1_micro", "f1_macro", "mean_average_precision"])
def test_the_cost_of_a_row_with_several_labels(metric):
    """By hand: ten rows have the first label and two of them the second, too; all answers are right."""
    targets = np.zeros((12, 2), np.float32)
    targets[:10, 0], targets[:2, 1] = 1, 1
    made = costliest_row(MultiLabel(NAMES, metric, thresholds=(0.5, 0.5)), 4 * targets - 2, targets)
    by_hand = {
        "f1_micro": 2 / 24,
        "f1_macro": (1 / 20 + 1 / 4) / 2,
        "mean_average_precision": (1 / 2 + np.log(11) / 10) / 2,
    }
    assert made == pytest.approx(by_hand[metric])


def test_a_regression_is_judged_by_its_correlation():
    rng = np.random.default_rng(0)
    examples = [Example("a", label=float(n)) for n in range(300)]
    exact = np.arange(300, dtype=np.float32)[:, None] + rng.normal(0, 0.1, (300, 1)).astype(np.float32)
    worse = exact + rng.normal(0, 50, (300, 1)).astype(np.float32)
    task = Regression((), "pearson")
    assert judge(task, exact, worse, examples, 1.0).outcome == "failed"
    assert judge(task, worse, exact, examples, 1.0).outcome == "passed"
    assert judge(task, exact, worse, examples, 1.0).drop > 0 > judge(task, worse, exact, examples, 1.0).drop
    assert movement(task, exact, worse) == pytest.approx(np.abs(exact - worse).mean())


@pytest.mark.parametrize("rows", [1, 10, 29, 30])
def test_a_regression_of_few_rows_is_undecided(rows):
    """Rows that all lose nothing would pass in any bootstrap, and rows that all lose much would fail."""
    examples = [Example("a", label=float(n)) for n in range(rows)]
    exact = np.arange(rows, dtype=np.float32)[:, None]
    task = Regression((), "pearson")
    same, worse = (judge(task, exact, other, examples, 1.0) for other in (exact, -exact))
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
def test_nothing_both_judges_and_calibrates(rows, texts):
    if rows and len({row.text for row in rows}) == 1 and not {t.text for t in texts} - {rows[0].text}:
        with pytest.raises(BortError, match="two different texts"):
            set_apart(rows, texts)
        return
    judging, calibrating = set_apart(rows, texts)
    if rows:
        assert judging
        assert calibrating
        assert not {row.text for row in judging} & {text.text for text in calibrating}
        assert {row.text for row in judging} <= {row.text for row in rows}
    else:
        assert (judging, calibrating) == ([], texts)
