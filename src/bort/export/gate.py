"""The accuracy gate: how much int8 loses on labelled data, with confidence bounds, and on which rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, Label, parse_number, shown_label
from bort.export.row_costs import costliest_row
from bort.tasks.task import Outputs, Targets, Task

CONFIDENCE = 0.95
_COUNTED_BY_ROW = ("accuracy", "exact_match")
"""Metrics that are a share of rows, so that the loss has exact bounds."""
_RESAMPLES = 400
_UNSEEN = -math.log(1 - CONFIDENCE)
"""A kind of row that occurs less than this many times in as many rows may, with that probability, be missing."""
_FEWEST_VALUES = 30
"""Fewest rows whose bootstrap decides on a regression; that of a few rows agrees with itself, whatever they are."""
_MOST_ROWS = 10_000_000
_LONGEST_TEXT = 200

Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """Scores of two precisions on the same rows.

    Args:
        kind: Kind of the task.
        metric: The task's metric.
        fp32: Score in fp32, times 100.
        int8: Score in int8, times 100.
        low: Lower bound of the points that int8 loses, with `CONFIDENCE`; negative if it may gain.
        high: Upper bound of the points that int8 loses, with `CONFIDENCE`.
        max_drop: Maximum number of points that int8 may lose.
        rows: Number of labelled rows.
        rows_to_decide: Number of rows like these that would decide; None if these decide, if no number would, or if
            the metric is not the share of rows that are right.
        moved: Mean absolute change of a probability, or of a regression's value. Needs no labels.
        lost: Rows on which int8 makes more mistakes or, for a regression, a larger error, the worst first: `row` (file
            and line), `label`, predictions in `fp32` and `int8`, `text`.
    """

    kind: Kind
    metric: str
    fp32: float
    int8: float
    low: float
    high: float
    max_drop: float
    rows: int
    rows_to_decide: int | None
    moved: float
    lost: tuple[dict[str, str], ...]

    @property
    def drop(self) -> float:
        """Points lost on these rows; negative if int8 is better."""
        return self.fp32 - self.int8

    @property
    def outcome(self) -> Outcome:
        """Whether the rows show that int8 loses at most `max_drop`, that it loses more, or neither."""
        if self._too_few:
            return "undecided"
        if self.high <= self.max_drop:
            return "passed"
        return "failed" if self.low > self.max_drop else "undecided"

    @property
    def passed(self) -> bool:
        """Whether int8 may be the default."""
        return self.outcome == "passed"

    @property
    def told(self) -> str:
        """The verdict as a sentence without its full stop."""
        lost = f"int8 {'gains' if self.drop < 0 else 'loses'} {abs(self.drop):.2f} points of {self.metric}"
        between = f"in truth {self.low:.2f} to {self.high:.2f}, each bound with {CONFIDENCE:.0%} confidence"
        said = f"{lost} on {self.rows:,} rows, {between}; at most {self.max_drop:g} are allowed"
        if self.outcome != "undecided":
            return f"{said}, so it {self.outcome}"
        if self._too_few:
            return f"{said}, so it is undecided: a regression needs at least {_FEWEST_VALUES} rows"
        more = f"about {self.rows_to_decide:,} rows would decide" if self.rows_to_decide else "more rows may decide"
        if self.kind != "regression" and self.metric not in _COUNTED_BY_ROW:
            more += ", above all of rare labels"
        return f"{said}, so it is undecided: {more}"

    @property
    def _too_few(self) -> bool:
        return self.kind == "regression" and self.rows < _FEWEST_VALUES

    def figures(self) -> dict[str, Any]:
        """The entries in `metrics.json` and the manifest."""
        return {
            "task": self.kind,
            "metric": self.metric,
            "fp32": self.fp32,
            "int8": self.int8,
            "drop": self.drop,
            "drop_interval": [self.low, self.high],
            "max_drop": self.max_drop,
            "outcome": self.outcome,
            "passed": self.passed,
            "rows": self.rows,
            "rows_to_decide": self.rows_to_decide,
            "moved": self.moved,
            "lost_rows": len(self.lost),
        }


def judge(
    task: Task, fp32: NDArray[np.float32], int8: NDArray[np.float32], examples: Sequence[Example], max_drop: float
) -> Verdict:
    """Compare the logits of two precisions on labelled rows. *Shape:* (examples, outputs) each.

    Raises:
        BortError: A label is unknown.
    """
    targets = task.targets(examples)
    task = task.fitted(fp32, targets)
    before, after = (task.errors(outputs, targets) for outputs in (fp32, int8))
    rows, needed = len(examples), None
    if task.metric in _COUNTED_BY_ROW:
        lost, won = (int(((one == 0) & (other > 0)).sum()) for one, other in ((before, after), (after, before)))
        low, high = drop_bounds(lost, won, rows)
        needed = None if high <= max_drop or low > max_drop else rows_to_decide(lost, won, rows, max_drop)
    else:
        low, high = _resampled_drops(task, fp32, int8, targets)
        if task.names:
            # Resamples hold only rows that were seen, but of a rare label others may be lost, or won.
            gain, cost = (100 * _UNSEEN * costliest_row(task, outputs, targets) for outputs in (int8, fp32))
            low, high = low - gain, high + cost
    return Verdict(
        task.kind,
        task.metric,
        fp32=_points(task, fp32, targets),
        int8=_points(task, int8, targets),
        low=low,
        high=high,
        max_drop=max_drop,
        rows=rows,
        rows_to_decide=needed,
        moved=movement(task, fp32, int8),
        lost=_lost(task, fp32, int8, after - before, examples),
    )


def movement(task: Task, fp32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    """Mean absolute change of a probability, or of a regression's value. *Shape:* (examples, outputs) each."""
    return float(np.abs(task.activate(fp32) - task.activate(int8)).mean())


def drop_bounds(lost: float, won: float, rows: float) -> tuple[float, float]:
    """Exact bounds of the accuracy points that int8 loses, from the rows on which only one precision is right.

    The shares of lost and of won rows get Clopper-Pearson bounds, each at half the error probability; their differences
    bound the drop. Each of the two bounds holds with `CONFIDENCE`.

    Args:
        lost: Number of rows that only fp32 predicts correctly.
        won: Number of rows that only int8 predicts correctly.
        rows: Number of all rows.
    """
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2

    def bounds(count: float) -> tuple[float, float]:
        low = float(beta.ppf(tail, count, rows - count + 1)) if count > 0 else 0.0
        high = float(beta.ppf(1 - tail, count + 1, rows - count)) if count < rows else 1.0
        return low, high

    (lost_low, lost_high), (won_low, won_high) = bounds(lost), bounds(won)
    return 100 * (lost_low - won_high), 100 * (lost_high - won_low)


def rows_to_decide(lost: int, won: int, rows: int, max_drop: float) -> int | None:
    """Number of rows like these that would decide; None if no number would.

    Args:
        lost: Number of rows that only fp32 predicts correctly.
        won: Number of rows that only int8 predicts correctly.
        rows: Number of all rows.
        max_drop: Maximum number of points that int8 may lose.
    """

    def decided(count: int) -> bool:
        low, high = drop_bounds(lost * count / rows, won * count / rows, count)
        return high <= max_drop or low > max_drop

    enough = rows
    while not decided(enough):
        enough *= 2
        if enough > _MOST_ROWS:
            return None
    few = enough // 2
    while enough - few > max(1, enough // 100):
        middle = (few + enough) // 2
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    return enough


def _points(task: Task, outputs: Outputs, targets: Targets) -> float:
    return 100 * task.score(outputs, targets, resamples=0)[task.metric].value


def _resampled_drops(task: Task, before: Outputs, after: Outputs, targets: Targets) -> tuple[float, float]:
    """Bootstrap bounds of the drop, resampling rows with both outputs; each holds with `CONFIDENCE`."""
    rng = np.random.default_rng(0)
    drops = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(targets), len(targets))
        scores = [_points(task, outputs[drawn], targets[drawn]) for outputs in (before, after)]
        drops.append(scores[0] - scores[1])
    low, high = np.quantile(drops, [1 - CONFIDENCE, CONFIDENCE]).tolist()
    return low, high


def _lost(
    task: Task, fp32: Outputs, int8: Outputs, more: NDArray[Any], examples: Sequence[Example]
) -> tuple[dict[str, str], ...]:
    worse = np.argsort(-more, kind="stable")[: int((more > 0).sum())]

    def shown(label: Label | None) -> str:
        return f"{parse_number(label):.4g}" if task.kind == "regression" else shown_label(label)

    answers = [task.labels(outputs[worse]) for outputs in (fp32, int8)] if len(worse) else [[], []]
    return tuple(
        {
            "row": f"{Path(examples[row].source).name}:{examples[row].line}",
            "label": shown(examples[row].label),
            "fp32": shown(before),
            "int8": shown(after),
            "text": examples[row].text[:_LONGEST_TEXT],
        }
        for row, before, after in zip(worse.tolist(), *answers, strict=True)
    )
