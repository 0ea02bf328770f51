"""Converts a model's logits to a task's answers and to the official metrics of its suite."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.metrics import Score, mean_score
from bort.tasks.regression import Regression
from bort.tasks.suites.casting import CastRow
from bort.tasks.suites.task_entry import SuiteTask
from bort.tasks.task import Task

METRIC_TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "em": "exact match",
    "f1": "F1 (macro)",
    "f1_positive": "F1",
    "f1a": "F1a",
    "matthews": "Matthews",
    "parity": "gender parity",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "token_f1": "F1",
}
Logits = NDArray[np.float32]
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def aligned(task: SuiteTask, model: Task, logits: Logits, source: str = "") -> Logits:
    """Put a model's outputs in the order of the task's labels.

    Args:
        task: The task that the rows belong to.
        model: The task of the model.
        logits: Its outputs. *Shape:* (rows, outputs).
        source: Name of the model for messages.

    Raises:
        BortError: The model has other labels.
    """
    if set(model.names) != set(task.labels):
        rule = f"{task.title} needs a model that answers with {', '.join(task.labels) or 'a number'}"
        raise BortError(rule, file=source or None, value=", ".join(model.names) or "a number")
    return logits if not task.labels else logits[:, [model.names.index(label) for label in task.labels]]


def answers(task: SuiteTask, rows: Sequence[CastRow], logits: Logits) -> list[str | float]:
    """The model's answers: a label or a number per row; for ReCoRD, the best-scoring entity per question.

    The released code intends to take ReCoRD's best entity too, but never updates its best score, and so falls back on
    the best of the entities that the model rejects.

    Args:
        task: The task that the rows belong to.
        rows: The rows.
        logits: Logits in the order of the task's labels. *Shape:* (rows, labels), or (rows, 1) for a regression.

    Returns:
        One answer per row, or per question of ReCoRD; those of STS-B are clipped to 0 to 5.
    """
    if not task.labels:
        return [float(value) for value in np.clip(logits[:, 0], 0.0, 5.0)]
    if task.shape == "record":
        margins = (logits[:, 1] - logits[:, 0]).tolist()
        asked = zip(rows, margins, strict=True)
        return [max(group, key=lambda each: each[1])[0].candidate for _, group in groupby(asked, lambda e: e[0].idx)]
    return [task.labels[int(index)] for index in logits.argmax(-1)]


def official_scores(
    task: SuiteTask, rows: Sequence[CastRow], logits: Logits, *, resamples: int = 1000
) -> dict[str, Score]:
    """Score a part by the official metrics, each from 0 to 1 (correlations from -1), with bootstrap intervals.

    Args:
        task: The task that the rows belong to.
        rows: The rows, with labels.
        logits: Logits in the order of the task's labels. *Shape:* (rows, labels).
        resamples: Resamples of the bootstrap; 0 gives no interval.

    Raises:
        BortError: A row has no label.
    """
    given = answers(task, rows, logits)
    if task.shape == "record":
        wanted = [next(group).answers for _, group in groupby(rows, key=lambda row: row.idx)]
        pairs = list(zip(map(str, given), wanted, strict=True))
        return {
            "token_f1": mean_score([_best_f1(say, known) for say, known in pairs], resamples=resamples),
            "em": mean_score(
                [float(any(exact_match(say, right) for right in known)) for say, known in pairs], resamples=resamples
            ),
        }
    plain = (Classification if task.labels else Regression)(task.labels, task.selects_by)
    examples = [row.example for row in rows]
    decided = np.array(given, np.float32) if not task.labels else logits.argmax(-1).astype(np.int64)
    scores = plain.judge(decided, plain.targets(examples), resamples=resamples)
    if task.shape == "multirc":
        right = [example.label == say for example, say in zip(examples, given, strict=True)]
        by_question = groupby(zip(rows, right, strict=True), key=lambda each: each[0].idx[:2])
        whole = [float(all(fine for _, fine in group)) for _, group in by_question]
        scores |= {"f1a": scores["f1_positive"], "em": mean_score(whole, resamples=resamples)}
    if "parity" in task.metrics:
        scores["parity"] = gender_parity(rows, [str(say) for say in given], resamples=resamples)
    return {name: scores[name] for name in task.metrics}


def gender_parity(rows: Sequence[CastRow], given: Sequence[str], *, resamples: int = 0) -> Score:
    """Share of Winogender's pairs, which differ only in a pronoun's gender, with the same answer for both rows.

    A pair is two rows with the same `pair_id`. Without `pair_id`, as on the hub, or if each row has its own, it is two
    consecutive rows.

    Args:
        rows: The rows.
        given: The answer to each row.
        resamples: Resamples of the bootstrap; 0 gives no interval.

    Raises:
        BortError: The rows do not come in pairs, or a pair has two hypotheses.
    """
    by_pair: dict[int | None, list[int]] = {}
    for place, row in enumerate(rows):
        by_pair.setdefault(row.pair, []).append(place)
    if None in by_pair or len(by_pair) == len(rows):
        if len(rows) % 2:
            raise BortError("gender parity compares pairs; there must be an even number of rows", value=len(rows))
        pairs = [[place, place + 1] for place in range(0, len(rows), 2)]
    else:
        pairs = list(by_pair.values())
    for places in pairs:
        last = rows[places[-1]].example
        if len(places) != 2:
            rule = f"must be the pair_id of two rows, not of {len(places)}: gender parity compares pairs"
            raise BortError(rule, file=last.source, line=last.line, column="pair_id", value=rows[places[0]].pair)
        if rows[places[0]].example.text_b != last.text_b:
            rule = "must be the hypothesis of the other row of its pair: gender parity compares pairs"
            raise BortError(rule, file=last.source, line=last.line, column="hypothesis", value=last.text_b)
    return mean_score([float(given[one] == given[other]) for one, other in pairs], resamples=resamples)


def normalized(answer: str) -> str:
    """An answer in lower case, without punctuation, articles and extra whitespace, as in SQuAD's evaluation script."""
    bare = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(given: str, right: str) -> bool:
    """Whether two answers are equal after normalisation."""
    return normalized(given) == normalized(right)


def token_f1(given: str, right: str) -> float:
    """F1 of the words that two normalised answers have in common."""
    said, wanted = normalized(given).split(), normalized(right).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _best_f1(given: str, known: Sequence[str]) -> float:
    return max((token_f1(given, right) for right in known), default=0.0)


def task_score(task: SuiteTask, scores: Mapping[str, float]) -> float:
    """One score per task: the mean of its metrics, as the leaderboards compute it."""
    return sum(scores[name] for name in task.metrics) / len(task.metrics)


def suite_score(scores: Mapping[str, Mapping[str, float]], tasks: Mapping[str, SuiteTask]) -> tuple[float, int]:
    """The suite's score: the mean over its tasks, with MNLI's two halves as one task and without diagnostics.

    Args:
        scores: For each task by name, its metrics by name.
        tasks: All tasks by name.

    Returns:
        The mean, and the number of tasks in it.

    Raises:
        ValueError: None of the tasks counts.
    """
    counted: dict[str, list[float]] = {}
    for name, found in scores.items():
        task = tasks[name]
        if not task.diagnostic:
            counted.setdefault(task.predicted_by or name, []).append(task_score(task, found))
    if not counted:
        raise ValueError("none of the tasks counts")
    return sum(sum(values) / len(values) for values in counted.values()) / len(counted), len(counted)


def shown(task: SuiteTask, scores: Mapping[str, Any]) -> str:
    """Scores as the leaderboards print them: in %, several separated by a slash."""
    return "/".join(f"{100 * scores[name]:.1f}" for name in task.metrics)
