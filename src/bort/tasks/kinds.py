"""The kinds of tasks, and which of them labelled examples are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, encode_values, infer_kind, label_names
from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.metrics import primary_metric
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression
from bort.tasks.task import Task

KINDS: Mapping[Kind, type[Task]] = {each.kind: each for each in (Classification, Regression, MultiLabel)}


def task_of(
    examples: Sequence[Example],
    *,
    kind: Literal["auto"] | Kind = "auto",
    metric: str = "auto",
    names: Sequence[str] = (),
) -> Task:
    """Read the task off labelled examples.

    Args:
        examples: What is to be learned from.
        kind: Of the task; `auto` decides by the labels.
        metric: The score that decides, or the kind's usual one.
        names: All labels, where the examples do not hold each of them.

    Raises:
        BortError: Fewer than two labels or distinct values, labels of another kind than is asked for, or a metric of
            another kind.
    """
    decided: Kind = infer_kind(examples) if kind == "auto" else kind
    if decided == "regression":
        if len(values := set(encode_values(examples))) < 2:
            rule = f"a regression needs at least two distinct values; there is only {values.pop():g}"
            raise BortError(rule, file=examples[0].source or None)
        names = ()
    else:
        names = tuple(names or label_names(examples))
    if metric == "f1_positive" and len(names) != 2:
        raise BortError("needs two labels", setting="metric", value=metric)
    task = KINDS[decided](tuple(names), primary_metric(decided, None if metric == "auto" else metric))
    if task.names:
        task.targets(examples)
    return task
