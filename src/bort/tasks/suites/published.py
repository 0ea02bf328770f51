"""Test scores that the papers claim for Bort and BERT-large, in %. Bort's have not been independently reproduced.

From arXiv 2010.10499; metrics are in the leaderboards' order, which is that of `SuiteTask.metrics`. RACE is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from bort.tasks.suites.task_entry import Suite

_MODELS = ("Bort", "BERT-large")
_SCORES: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "cola": ((63.9,), (60.5,)),
    "sst2": ((96.2,), (94.9,)),
    "mrpc": ((94.1, 92.3), (89.3, 85.4)),
    "stsb": ((89.2, 88.3), (87.6, 86.5)),
    "qqp": ((66.0, 85.9), (72.1, 89.3)),
    "mnli": ((88.1,), (86.7,)),
    "mnli_mm": ((87.8,), (85.9,)),
    "qnli": ((92.3,), (92.7,)),
    "rte": ((82.7,), (70.1,)),
    "wnli": ((71.2,), (65.1,)),
    "ax": ((51.9,), (39.6,)),
    "boolq": ((83.7,), (77.4,)),
    "cb": ((81.9, 86.5), (75.7, 83.6)),
    "copa": ((89.6,), (70.6,)),
    "multirc": ((83.7, 54.1), (70.0, 24.1)),
    "record": ((49.8, 49.0), (72.0, 71.3)),
    "superglue_rte": ((81.2,), (71.7,)),
    "wic": ((70.1,), (69.6,)),
    "wsc": ((65.8,), (64.4,)),
    "axb": ((48.0,), (23.0,)),
    "axg": ((96.1, 61.5), (97.8, 51.7)),
}
"""Of each task, the scores of each model."""

PUBLISHED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    model: {task: scores[place] for task, scores in _SCORES.items()} for place, model in enumerate(_MODELS)
}
PUBLISHED_SUITES: Mapping[str, Mapping[Suite, float]] = {
    "Bort": {"glue": 83.6, "superglue": 74.1},
    "BERT-large": {"glue": 80.5, "superglue": 69.0},
}


def claimed(model: str, task: str) -> str:
    """A published score as the leaderboards print it, or an empty string."""
    return "/".join(f"{value:.1f}" for value in PUBLISHED[model].get(task, ()))
