"""Confident learning against its definition, and on planted errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.inspection.label_errors import doubtful_classes, doubtful_values


def test_the_example_of_the_definition():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.8, 0.2]])
    # Thresholds: class 0 (rows 0 and 1) 0.75, class 1 (rows 2 and 3) 0.5. Only row 3 reaches another one's.
    assert [(d.row, d.answer) for d in doubtful_classes(p, np.array([0, 0, 1, 1]))] == [(3, 0)]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 5))
def test_what_is_found_keeps_the_definition(seed, count, classes):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), count)
    labels = rng.integers(0, classes, count)
    found = doubtful_classes(p, labels)
    given_p = [each.probability_given for each in found]
    assert given_p == sorted(given_p)
    rows = {each.row: each for each in found}
    assert len(rows) == len(found)
    for row in range(count):
        reached = {
            k: p[row, k] for k in range(classes) if (labels == k).any() and p[row, k] >= p[labels == k, k].mean()
        }
        best = max(reached, key=lambda k: reached[k]) if reached else labels[row]
        doubted = best != labels[row] and p[row, best] > p[row, labels[row]]
        assert doubted == (row in rows)
        if doubted:
            assert rows[row].answer == best


def test_planted_errors_come_first():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    logits = 3 * np.eye(3)[labels] + rng.normal(0, 0.5, (120, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    planted = [3, 50, 100]
    given_labels = labels.copy()
    given_labels[planted] = (labels[planted] + 1) % 3
    found = doubtful_classes(p, given_labels)
    assert {each.row for each in found[:3]} == {*planted}
    assert all(each.answer == labels[each.row] for each in found[:3])


def test_numbers_far_off_are_doubtful():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100)
    answers = values + rng.normal(0, 0.1, 100)
    values[7] += 5
    values[9] -= 3
    assert [each.row for each in doubtful_values(answers, values)] == [7, 9]


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_where_all_is_right_no_number_is_doubtful(values):
    values = np.array(values)
    assert not doubtful_values(values, values)


def test_no_examples():
    assert not doubtful_classes(np.zeros((0, 2)), np.array([], np.int64))
