from __future__ import annotations

import json
import math

import pytest
from benchmarks.quality.few_labels import commits_of, commits_told, in_order
from benchmarks.quality.ose_paper import PUBLISHED, power_law
from benchmarks.quality.rivals import difference, overall, percent, seeds_of, seeds_told
from benchmarks.quality.scarce import Cache

from bort.ose.space import Shape


def test_a_cache_keeps_and_finds_records(tmp_path):
    file = tmp_path / "kept.jsonl"
    cache = Cache(file, fresh=False)
    assert cache.get({"seed": 0}) is None
    cache.add({"key": {"seed": 0}, "test": 0.5})
    cache.add({"key": {"seed": 1}, "test": 0.7})
    again = Cache(file, fresh=False)
    assert again.get({"seed": 1}) == {"key": {"seed": 1}, "test": 0.7}
    assert again.get({"seed": 1, "rate": 1e-3}) is None
    assert [json.loads(line)["test"] for line in file.read_text("utf-8").splitlines()] == [0.5, 0.7]


def test_what_is_stored_is_not_done_again(tmp_path):
    made = Cache(tmp_path / "kept.jsonl", fresh=False).once({"seed": 0}, lambda: {"test": 0.5})
    assert made == {"key": {"seed": 0}, "test": 0.5}
    again = Cache(tmp_path / "kept.jsonl", fresh=False)
    assert again.once({"seed": 0}, lambda: {"test": 0.7}) == made
    assert again.once({"seed": 1}, lambda: {"test": 0.7})["test"] == 0.7


def test_two_processes_may_add_to_one_cache(tmp_path):
    file = tmp_path / "kept.jsonl"
    one, other = Cache(file, fresh=False), Cache(file, fresh=False)
    one.add({"key": {"seed": 0}})
    other.add({"key": {"seed": 1}})  # knew nothing of the first
    one.add({"key": {"seed": 2}})
    assert [json.loads(line)["key"]["seed"] for line in file.read_text("utf-8").splitlines()] == [0, 1, 2]
    assert other.get({"seed": 0}) == {"key": {"seed": 0}}


def test_a_fresh_cache_forgets(tmp_path):
    file = tmp_path / "kept.jsonl"
    Cache(file, fresh=False).add({"key": {"seed": 0}})
    assert Cache(file, fresh=True).get({"seed": 0}) is None


def test_a_power_law_lets_the_published_answer_win():
    rivals = {Shape(2, 8, 1024, 768): 0.6, Shape(4, 8, 512, 768): 0.8}
    saved = {PUBLISHED: 0.5, **rivals}
    found = power_law(saved)

    def error(shape):
        return math.prod(value**-power for value, power in zip(shape, found, strict=True))

    for rival, savings in rivals.items():
        assert saved[PUBLISHED] / error(PUBLISHED) >= savings / error(rival) * (1 - 1e-9)
    # Half the depth is worth 0.6 / 0.5, half the width 0.8 / 0.5.
    assert found == pytest.approx([math.log2(1.2), 0, math.log2(1.6), 0])


def test_no_power_law_where_a_larger_rival_saves_more():
    assert power_law({PUBLISHED: 0.5, Shape(8, 8, 1024, 768): 0.6}) is None


def test_differences_are_paired_and_have_a_standard_error():
    a, b = {"x": [0.6, 0.8], "y": [0.5, 0.5]}, {"x": [0.5, 0.7], "y": [0.5, 0.3]}
    points, error = difference(a, b)
    assert points == pytest.approx(10)
    assert error == pytest.approx(math.sqrt(0 / 2 + 200 / 2) / 2)
    assert points == pytest.approx(overall(a) - overall(b))


def test_tasks_that_differ_do_not_add_to_the_error():
    """Each task is measured exactly; how much more one task gains than another is not chance."""
    a, b = {"x": [0.9, 0.9], "y": [0.5, 0.5]}, {"x": [0.5, 0.5], "y": [0.5, 0.5]}
    assert difference(a, b) == (pytest.approx(20), pytest.approx(0))


def test_scores_are_paired_by_seed():
    """Of the second seed only one run was measured."""
    records = {0: {"test": 0.9}, 2: {"test": 0.7}}
    some = {"x": in_order(records, [0, 1, 2])}
    assert some == {"x": [0.9, None, 0.7]}
    assert difference(some, {"x": [0.8, 0.1, 0.6]}) == (pytest.approx(10), pytest.approx(0))
    assert (overall(some), percent(some["x"]), seeds_of(some)) == (pytest.approx(80), "80.0", 2)


def test_a_page_names_the_commits_of_the_runs():
    runs = [("b", "sst2"), ("a", "sst2"), ("b", "trec"), ("b", "sst2")]
    commits = commits_of({"key": {"code": code, "task": task}} for code, task in runs)
    assert commits == {"b": ["sst2", "trec"], "a": ["sst2"]}
    told = commits_told(commits)
    assert "Commits of the runs: b (sst2, trec), a (sst2). " in told
    assert "Runs of earlier commits count" in told
    assert commits_told({}) == ""


def test_one_seed_has_no_standard_error():
    assert difference({"x": [0.6]}, {"x": [0.5]}) == (pytest.approx(10), None)


def test_seeds_that_only_one_has_are_left_out():
    assert difference({"x": [0.6]}, {"x": [0.5, 0.9]}) == (pytest.approx(10), None)
    assert difference({"x": [0.6, 0.7]}, {"x": [0.5, 0.6, 0.9], "y": [0.1]}) == (pytest.approx(10), pytest.approx(0))


def test_a_table_says_how_many_seeds_its_rows_have():
    assert seeds_told({}) == seeds_told({"a": 1, "b": 1}) == "One seed"
    assert seeds_told({"a": 3}) == "Means of 3 seeds"
    told = "Means of 3 seeds; one seed: b Agora, d; 2 seeds: c"
    assert seeds_told({"a": 3, "b, Agora": 1, "c": 2, "d": 1}) == told
