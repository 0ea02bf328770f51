"""The accuracy gate: what a faster precision loses on labelled data, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.data.examples import Example
from bort.report import Report
from bort.runtime.predictor import Predictor

_MOST_SHOWN = 50


@dataclass(frozen=True)
class Verdict:
    """Scores of two precisions on the same rows.

    Args:
        metric: What is scored.
        fp32: Its score in fp32, times 100.
        int8: The same in int8.
        max_drop: Most points that int8 may lose.
        lost: Rows that fp32 answers rightly and int8 does not: place, label, answer in int8, text.
    """

    metric: str
    fp32: float
    int8: float
    max_drop: float
    lost: tuple[tuple[str, str, str, str], ...]

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

    def report(self, file: Path) -> None:
        """Write the page that shows where int8 lost."""
        page = Report("Export", f"int8 {'passed' if self.passed else 'lost too much'}: {self.drop:.2f} points")
        page.tiles([(f"{self.fp32:.2f}", f"{self.metric}, fp32"), (f"{self.int8:.2f}", f"{self.metric}, int8")])
        page.heading(f"Right in fp32 and wrong in int8: {len(self.lost)} rows")
        page.table(["row", "label", "int8", "text"], self.lost[:_MOST_SHOWN])
        page.write(file)


def judge(fp32: str, int8: str, examples: Sequence[Example], max_drop: float) -> Verdict:
    """Score two exported folders on labelled rows.

    Raises:
        BortError: A label is unknown.
    """
    task = Predictor(fp32).task
    targets = task.targets(examples)
    decided = [task.decide(Predictor(folder).logits(examples)) for folder in (fp32, int8)]
    scores = [100 * task.judge(answers, targets, resamples=0)[task.metric].value for answers in decided]
    lost = []
    if task.kind == "classification":
        for example, target, before, after in zip(examples, targets, *decided, strict=True):
            if before == target != after:
                place = f"{example.source}:{example.line}"
                lost.append((place, task.names[int(target)], task.names[int(after)], example.text[:200]))
    return Verdict(task.metric, scores[0], scores[1], max_drop, tuple(lost))
