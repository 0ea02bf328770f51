"""The accuracy gate: what a faster precision loses on labelled data, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example, Kind
from bort.tasks.task import Task

_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Verdict:
    """Scores of two precisions on the same rows.

    Args:
        kind: Of the task.
        metric: What is scored.
        fp32: Its score in fp32, times 100.
        int8: The same in int8.
        max_drop: Most points that int8 may lose.
        lost: Rows that fp32 answers rightly and int8 does not, or of a regression those that int8 is further off on,
            the worst first: place, label, answers in fp32 and int8, text.
    """

    kind: Kind
    metric: str
    fp32: float
    int8: float
    max_drop: float
    lost: tuple[tuple[str, ...], ...]

    @property
    def drop(self) -> float:
        """Points lost; below 0 where int8 is better."""
        return self.fp32 - self.int8

    @property
    def passed(self) -> bool:
        """Whether int8 may be the default."""
        return self.drop <= self.max_drop

    def figures(self) -> dict[str, Any]:
        """For `metrics.json` and the manifest."""
        return {
            "metric": self.metric,
            "fp32": self.fp32,
            "int8": self.int8,
            "drop": self.drop,
            "max_drop": self.max_drop,
            "passed": self.passed,
            "lost_rows": len(self.lost),
        }


def judge(
    task: Task, fp32: NDArray[np.float32], int8: NDArray[np.float32], examples: Sequence[Example], max_drop: float
) -> Verdict:
    """Score the logits of two precisions on labelled rows. *Shape:* (examples, outputs) each.

    Raises:
        BortError: A label is unknown.
    """
    targets = task.targets(examples)
    decided = [task.decide(logits) for logits in (fp32, int8)]
    scores = [100 * task.judge(answers, targets, resamples=0)[task.metric].value for answers in decided]
    before, after = decided
    if task.kind == "classification":
        worse = np.flatnonzero((before == targets) & (after != targets))
    else:
        more = np.abs(after - targets) - np.abs(before - targets)
        worse = np.argsort(-more, kind="stable")[: int((more > 0).sum())]

    def shown(answer: float) -> str:
        return task.names[int(answer)] if task.kind == "classification" else f"{answer:.4g}"

    lost = [
        (
            f"{Path(examples[row].source).name}:{examples[row].line}",
            *(shown(answers[row]) for answers in (targets, before, after)),
            examples[row].text[:_LONGEST_TEXT],
        )
        for row in worse.tolist()
    ]
    return Verdict(task.kind, task.metric, scores[0], scores[1], max_drop, tuple(lost))
