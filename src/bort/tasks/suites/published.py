"""Test scores that the papers claim for Bort and BERT-large, in %. Bort's have not been independently reproduced.

From arXiv 2010.10499; metrics are in the leaderboards' order, which is that of `SuiteTask.metrics`. RACE is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from bort.tasks.suites.task_entry import Suite

PUBLISHED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "Bort": {
        "cola": (63.9,),
        "sst2": (96.2,),
        "mrpc": (94.1, 92.3),
        "stsb": (89.2, 88.3),
        "qqp": (66.0, 85.9),
        "mnli": (88.1,),
        "mnli_mm": (87.8,),
        "qnli": (92.3,),
        "rte": (82.7,),
        "wnli": (71.2,),
        "ax": (51.9,),
        "boolq": (83.7,),
        "cb": (81.9, 86.5),
        "copa": (89.6,),
        "multirc": (83.7, 54.1),
        "record": (49.8, 49.0),
        "superglue_rte": (81.2,),
        "wic": (70.1,),
        "wsc": (65.8,),
        "axb": (48.0,),
        "axg": (96.1, 61.5),
    },
    "BERT-large": {
        "cola": (60.5,),
        "sst2": (94.9,),
        "mrpc": (89.3, 85.4),
        "stsb": (87.6, 86.5),
        "qqp": (72.1, 89.3),
        "mnli": (86.7,),
        "mnli_mm": (85.9,),
        "qnli": (92.7,),
        "rte": (70.1,),
        "wnli": (65.1,),
        "ax": (39.6,),
        "boolq": (77.4,),
        "cb": (75.7, 83.6),
        "copa": (70.6,),
        "multirc": (70.0, 24.1),
        "record": (72.0, 71.3),
        "superglue_rte": (71.7,),
        "wic": (69.6,),
        "wsc": (64.4,),
        "axb": (23.0,),
        "axg": (97.8, 51.7),
    },
}
PUBLISHED_SUITES: Mapping[str, Mapping[Suite, float]] = {
    "Bort": {"glue": 83.6, "superglue": 74.1},
    "BERT-large": {"glue": 80.5, "superglue": 69.0},
}


def claimed(model: str, task: str) -> str:
    """A published score as the leaderboards print it, or an empty string."""
    return "/".join(f"{value:.1f}" for value in PUBLISHED[model].get(task, ()))
