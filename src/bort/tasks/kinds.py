"""The kinds of tasks, and how to infer one from labelled examples."""

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
    """Infer the task from labelled examples.

    Args:
        examples: Training examples.
        kind: Kind of the task; `auto` infers it from the labels. With `names`, numbers are classes, too.
        metric: The metric that selects models, or `auto` for the kind's default.
        names: All labels, if the examples lack some.

    Raises:
        BortError: There are fewer than two labels or distinct values, a label is named twice, a regression has names,
            or the labels or the metric belong to another kind of task.
    """
    decided: Kind = infer_kind(examples) if kind == "auto" else kind
    if kind == "auto" and decided == "regression" and names:
        decided = "classification"
    if decided == "regression":
        if len(values := set(encode_values(examples))) < 2:
            rule = f"a regression needs at least two distinct values; there is only {values.pop():g}"
            raise BortError(rule, file=examples[0].source or None)
        if names:
            raise BortError("a regression has no classes: leave them out", setting="classes", value=[*names])
    elif names:
        if len(names) < 2 or len({*names}) < len(names):
            raise BortError("must name at least two labels, each once", setting="classes", value=[*names])
    else:
        names = label_names(examples)
    if metric == "f1_positive" and len(names) != 2:
        raise BortError("needs two labels", setting="metric", value=metric)
    task = KINDS[decided](tuple(names), primary_metric(decided, None if metric == "auto" else metric))
    if task.names:
        task.targets(examples)
    return task
