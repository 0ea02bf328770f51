"""The 23 tasks of GLUE, SuperGLUE and RACE, one row each.

Sizes, fields and labels are those of the suites' own files (gluebenchmark.com, super.gluebenchmark.com, and RACE,
arXiv 1704.04683); labels are in the order of the Hugging Face hub's copies. File names and spellings in submissions are
those that jiant, the toolkit of the suites' authors, writes. `bort.tasks.suites.casting` casts the rows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bort.errors import BortError
from bort.tasks.suites.task_entry import Part, Suite, SuiteTask


def plain_name(name: str) -> str:
    """Normalise a name, so that SST-2, sst_2 and sst2 are the same."""
    return re.sub(r"[-_. ]", "", name.lower())


def find(names: Sequence[str]) -> list[SuiteTask]:
    """Find tasks by their names, and all tasks of a suite by its name.

    Args:
        names: Names of tasks ("mrpc", "SST-2") and suites ("glue", "superglue", "race").

    Returns:
        The tasks in the order of the names, each once.

    Raises:
        BortError: A name is neither a task nor a suite.
    """
    known = {plain_name(name): [task] for name, task in TASKS.items()}
    known |= {plain_name(task.title): [task] for task in reversed(list(TASKS.values()))}
    known |= {plain_name(suite): [task for task in TASKS.values() if task.suite == suite] for suite in SUITES}
    found: dict[str, SuiteTask] = {}
    for name in names:
        tasks = known.get(plain_name(name))
        if tasks is None:
            near = difflib.get_close_matches(plain_name(name), known, n=1)
            hint = f"did you mean {known[near[0]][0].name}?" if near else f"there are: {', '.join([*TASKS, *SUITES])}"
            raise BortError(f"is no task; {hint}", setting="task", value=name)
        found |= {task.name: task for task in tasks}
    return list(found.values())


def predicted_with(task: SuiteTask) -> list[SuiteTask]:
    """The other tasks that a model of this one predicts."""
    return [other for other in TASKS.values() if other.predicted_by == task.name]


SUITES: Mapping[Suite, str] = {"glue": "GLUE", "superglue": "SuperGLUE", "race": "RACE"}
HUB: Mapping[Suite, str] = {"glue": "nyu-mll/glue", "superglue": "aps/super_glue", "race": "ehovy/race"}
_TSV: Mapping[Part, tuple[str, ...]] = {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
_JSONL: Mapping[Part, tuple[str, ...]] = {
    "train": ("train.jsonl",),
    "dev": ("val.jsonl", "dev.jsonl"),
    "test": ("test.jsonl",),
}
_SPLIT: Mapping[Part, str] = {"train": "train", "dev": "validation", "test": "test"}
_TEST: Mapping[Part, str] = {"test": "test"}
_BINARY = (("0",), ("1",))
_ENTAILMENT = (("entailment",), ("not_entailment",))
_INFERENCE = (("entailment",), ("neutral",), ("contradiction",))
_TRUTH = (("false", "False"), ("true", "True"))
_PREMISE, _HYPOTHESIS = ("premise", "sentence1"), ("hypothesis", "sentence2")


def _counts(train: int, dev: int, test: int) -> dict[Part, int]:
    return {"train": train, "dev": dev, "test": test}


def _glue(name: str, title: str, **other: Any) -> SuiteTask:
    return _task(name, title, **{"suite": "glue", "files": _TSV} | other)


def _superglue(name: str, title: str, **other: Any) -> SuiteTask:
    return _task(name, title, **{"suite": "superglue", "files": _JSONL} | other)


def _task(name: str, title: str, **other: Any) -> SuiteTask:
    """Fill in what most tasks have in common."""
    usual: dict[str, Any] = {"metrics": ("accuracy",), "selects_by": "accuracy", "split": _SPLIT, "config": name}
    return SuiteTask(name, title, **usual | other)


_GLUE = [
    _glue(
        "cola",
        "CoLA",
        metrics=("matthews",),
        selects_by="matthews",
        counts=_counts(8551, 1043, 1063),
        spellings=(("0", "unacceptable"), ("1", "acceptable")),
        text=("sentence",),
        text_b=(),
        headless=("source", "label", "mark", "sentence"),
    ),
    _glue(
        "sst2",
        "SST-2",
        counts=_counts(67349, 872, 1821),
        spellings=(("0", "negative"), ("1", "positive")),
        text=("sentence",),
        text_b=(),
    ),
    _glue(
        "mrpc",
        "MRPC",
        metrics=("f1_positive", "accuracy"),
        counts=_counts(3668, 408, 1725),
        spellings=(("0", "not_equivalent"), ("1", "equivalent")),
        text=("#1 String", "sentence1"),
        text_b=("#2 String", "sentence2"),
        label=("Quality", "label"),
    ),
    _glue(
        "stsb",
        "STS-B",
        metrics=("pearson", "spearman"),
        selects_by="pearson",
        counts=_counts(5749, 1500, 1379),
        label=("score", "label"),
    ),
    _glue(
        "qqp",
        "QQP",
        metrics=("f1_positive", "accuracy"),
        counts=_counts(363846, 40430, 390965),
        spellings=(("0", "not_duplicate"), ("1", "duplicate")),
        text=("question1",),
        text_b=("question2",),
        label=("is_duplicate", "label"),
        torn=True,
    ),
    _glue(
        "mnli",
        "MNLI",
        counts=_counts(392702, 9815, 9796),
        spellings=_INFERENCE,
        text=_PREMISE,
        text_b=_HYPOTHESIS,
        label=("gold_label", "label"),
        files={"train": ("train.tsv",), "dev": ("dev_matched.tsv",), "test": ("test_matched.tsv",)},
        split={"train": "train", "dev": "validation_matched", "test": "test_matched"},
        undecided="-",
    ),
    _glue(
        "mnli_mm",
        "MNLI-mm",
        counts={"dev": 9832, "test": 9847},
        spellings=_INFERENCE,
        text=_PREMISE,
        text_b=_HYPOTHESIS,
        label=("gold_label", "label"),
        files={"dev": ("dev_mismatched.tsv",), "test": ("test_mismatched.tsv",)},
        split={"dev": "validation_mismatched", "test": "test_mismatched"},
        config="mnli",
        folders=("MNLI",),
        undecided="-",
        predicted_by="mnli",
    ),
    _glue(
        "qnli",
        "QNLI",
        counts=_counts(104743, 5463, 5463),
        spellings=_ENTAILMENT,
        text=("question",),
        text_b=("sentence",),
    ),
    _glue("rte", "RTE", counts=_counts(2490, 277, 3000), spellings=_ENTAILMENT, max_length=256),
    _glue("wnli", "WNLI", counts=_counts(635, 71, 146), spellings=(("0", "not_entailment"), ("1", "entailment"))),
    _glue(
        "ax",
        "AX",
        metrics=("matthews",),
        selects_by="matthews",
        counts={"test": 1104},
        spellings=_INFERENCE,
        text=_PREMISE,
        text_b=_HYPOTHESIS,
        folders=("diagnostic",),
        files={"test": ("diagnostic.tsv", "AX.tsv", "test.tsv")},
        split=_TEST,
        predicted_by="mnli",
        diagnostic=True,
    ),
]
_SUPERGLUE = [
    _superglue(
        "boolq",
        "BoolQ",
        counts=_counts(9427, 3270, 3245),
        spellings=_TRUTH,
        text=("passage",),
        text_b=("question",),
        max_length=256,
    ),
    _superglue(
        "cb",
        "CB",
        metrics=("f1", "accuracy"),
        selects_by="f1",
        counts=_counts(250, 56, 250),
        spellings=(("entailment",), ("contradiction",), ("neutral",)),
        text=("premise",),
        text_b=("hypothesis",),
        max_length=256,
    ),
    _superglue(
        "copa",
        "COPA",
        counts=_counts(400, 100, 500),
        spellings=(("0", "choice1"), ("1", "choice2")),
        submitted=(0, 1),
        shape="copa",
    ),
    _superglue(
        "multirc",
        "MultiRC",
        metrics=("f1a", "em"),
        selects_by="f1_positive",
        counts=_counts(27243, 4848, 9693),
        spellings=(("0", "false", "False"), ("1", "true", "True")),
        submitted=(0, 1),
        shape="multirc",
        max_length=512,
    ),
    _superglue(
        "record",
        "ReCoRD",
        metrics=("token_f1", "em"),
        selects_by="f1_positive",
        counts=_counts(100730, 10000, 10000),
        spellings=_BINARY,
        shape="record",
        max_length=512,
    ),
    _superglue(
        "superglue_rte",
        "RTE",
        counts=_counts(2490, 277, 3000),
        spellings=_ENTAILMENT,
        text=("premise",),
        text_b=("hypothesis",),
        config="rte",
        max_length=256,
    ),
    _superglue("wic", "WiC", counts=_counts(5428, 638, 1400), spellings=_TRUTH, shape="wic"),
    _superglue(
        "wsc",
        "WSC",
        counts=_counts(554, 104, 146),
        spellings=_TRUTH,
        submitted=("False", "True"),
        shape="wsc",
        config="wsc.fixed",
    ),
    _superglue(
        "axb",
        "AX-b",
        metrics=("matthews",),
        selects_by="matthews",
        counts={"test": 1104},
        spellings=_ENTAILMENT,
        files={"test": ("AX-b.jsonl", "test.jsonl")},
        split=_TEST,
        predicted_by="superglue_rte",
        diagnostic=True,
    ),
    _superglue(
        "axg",
        "AX-g",
        metrics=("parity", "accuracy"),
        counts={"test": 356},
        spellings=_ENTAILMENT,
        text=("premise",),
        text_b=("hypothesis",),
        files={"test": ("AX-g.jsonl", "test.jsonl")},
        split=_TEST,
        predicted_by="superglue_rte",
        diagnostic=True,
    ),
]
_RACE = [
    SuiteTask(
        name,
        title,
        "race",
        metrics=("accuracy",),
        selects_by="accuracy",
        counts=counts,
        spellings=(("A",), ("B",), ("C",), ("D",)),
        shape="race",
        split=_SPLIT,
        config=config,
        max_length=512,
    )
    for name, title, config, counts in (
        ("race_m", "RACE-M", "middle", _counts(25421, 1436, 1436)),
        ("race_h", "RACE-H", "high", _counts(62445, 3451, 3498)),
    )
]
TASKS: Mapping[str, SuiteTask] = {task.name: task for task in [*_GLUE, *_SUPERGLUE, *_RACE]}
