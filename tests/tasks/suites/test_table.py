"""The 23 tasks: found by any name that people use, and consistent with what is published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bort.errors import BortError
from bort.tasks.metrics import METRICS
from bort.tasks.suites.published import PUBLISHED, PUBLISHED_SUITES, claimed
from bort.tasks.suites.scoring import METRIC_TITLES, suite_score
from bort.tasks.suites.table import SUITES, TASKS, find, predicted_with


def test_there_are_23():
    assert len(TASKS) == 23
    assert [sum(task.suite == suite for task in TASKS.values()) for suite in SUITES] == [11, 10, 2]
    assert len({task.submission for task in TASKS.values()}) == 23


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cola", "cola"),
        ("SST-2", "sst2"),
        ("sts_b", "stsb"),
        ("MNLI", "mnli"),
        ("mnli-mm", "mnli_mm"),
        ("RTE", "rte"),
        ("superglue_rte", "superglue_rte"),
        ("AX-b", "axb"),
        ("race-m", "race_m"),
        ("MultiRC", "multirc"),
    ],
)
def test_a_task_is_found_however_it_is_written(name, found):
    assert [task.name for task in find([name])] == [found]


def test_a_benchmark_stands_for_its_tasks():
    assert [task.name for task in find(["race", "cola", "race_h"])] == ["race_m", "race_h", "cola"]
    assert len(find(["glue"])) == 11


def test_an_unknown_name():
    with pytest.raises(BortError, match=r"'colla': is no task; did you mean cola\?") as caught:
        find(["colla"])
    assert len(str(caught.value)) < 400
    with pytest.raises(BortError, match="there are: cola, sst2") as caught:
        find(["zzz"])
    assert len(str(caught.value)) < 400


def test_diagnostics_are_predicted_by_the_models_of_others():
    assert [task.name for task in predicted_with(TASKS["mnli"])] == ["mnli_mm", "ax"]
    assert [task.name for task in predicted_with(TASKS["superglue_rte"])] == ["axb", "axg"]
    assert not predicted_with(TASKS["rte"])
    for task in TASKS.values():
        assert task.trains == ("train" in task.counts)
        assert not task.predicted_by or TASKS[task.predicted_by].labels == task.labels


def test_the_documented_table_is_this_one():
    text = (Path(__file__).parents[3] / "docs/tasks.md").read_text("utf-8")
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \| (.*) \| `(\S+)` \|$", text, re.MULTILINE)
    listed = [(name, suite, answers) for name, suite, *_, answers in found]
    assert listed == [(name, SUITES[task.suite], task.submission) for name, task in TASKS.items()]
    for name, _, seen, *_ in found:
        assert ("by the model of" in seen) == (not TASKS[name].trains)
        assert ("choices" in seen) == TASKS[name].chooses("improved")


def test_every_row_is_whole():
    for task in TASKS.values():
        assert "test" in task.counts
        assert task.counts.keys() == task.split.keys()
        assert task.suite == "race" or task.files.keys() == task.counts.keys()
        assert task.config
        assert set(task.metrics) <= METRIC_TITLES.keys()
        assert task.selects_by in METRICS["classification" if task.labels else "regression"]
        assert len(task.submitted) in (0, len(task.labels))
        spelt = [spelling for spellings in task.spellings for spelling in spellings]
        assert len(set(spelt)) == len(spelt)


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("suite", ["glue", "superglue"])
def test_the_published_means_follow_from_the_published_scores(model, suite):
    """So our way to a benchmark's figure is theirs: MNLI's halves one task, diagnostics left out, metrics averaged."""
    scores = {
        name: dict(zip(TASKS[name].metrics, values, strict=True))
        for name, values in PUBLISHED[model].items()
        if TASKS[name].suite == suite
    }
    figure, count = suite_score(scores, TASKS)
    assert round(figure, 1) == PUBLISHED_SUITES[model][suite]
    assert count == {"glue": 9, "superglue": 8}[suite]


def test_claims_are_told_as_the_leaderboards_print_them():
    assert claimed("Bort", "mrpc") == "94.1/92.3"
    assert claimed("BERT-large", "cola") == "60.5"
    assert claimed("Bort", "race_m") == ""


def test_a_figure_of_diagnostics_alone_is_none():
    with pytest.raises(ValueError, match="none of the tasks counts"):
        suite_score({"ax": {"matthews": 0.5}}, TASKS)
