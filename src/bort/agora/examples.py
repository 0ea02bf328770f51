"""Examples of new texts and the mistakes that they come from, for `metrics.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bort.agora.rounds import Round
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.data.tables.labels import shown_label
from bort.finetuning.splits import Splits
from bort.tasks.task import Task

_MOST_A_ROUND = 6
_LONGEST_TEXT = 160
_SHOWN_FROM = 0.5
"""In a multilabel task, labels with a probability above this are shown."""


def examples_of(rounds: Sequence[Round[TrainedWeights]], data: Splits) -> list[dict[str, Any]]:
    """Return some new texts of each round, evenly spread, with the mistakes that they come from.

    Args:
        rounds: Rounds of the loop.
        data: The given data.

    Returns:
        For each the `round`; the text of the `mistake`, its `label`, and the wrong prediction `taken_for` (None for
        training data); `new_text` and `new_label`.
    """
    given, truth = [*data.dev, *data.train], data.task.targets(data.dev)
    found = []
    for done in rounds:
        answers, made = np.array(done.winner.answers), [*zip(done.growth.parents, done.growth.points, strict=True)]
        task = data.task.fitted(answers, truth)
        for parent, point in made[:: max(1, len(made) // _MOST_A_ROUND)][:_MOST_A_ROUND]:
            mistake, taken = given[parent], None
            if parent < len(data.dev):
                [answer] = task.labels(answers[parent : parent + 1])
                taken = f"{answer:.3g}" if isinstance(answer, float) else shown_label(answer)
            found.append(
                {
                    "round": done.number,
                    "mistake": _shown(mistake),
                    "label": shown_label(mistake.label),
                    "taken_for": taken,
                    "new_text": _shown(point.x),
                    "new_label": _label_shown(point.y, data.task),
                }
            )
    return found


def _shown(example: Example) -> str:
    texts = [example.text] if example.text_b is None else [example.text, example.text_b]
    return " ‖ ".join(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…" for text in texts)


def _label_shown(y: Any, task: Task) -> str:
    names = task.names
    if task.kind == "multilabel":
        given = [f"{name} ({100 * p:.0f} %)" for name, p in zip(names, y, strict=True) if p > _SHOWN_FROM]
        return "; ".join(given) or "(none)"
    if isinstance(y, tuple):
        likeliest = max(range(len(y)), key=lambda place: y[place])
        return f"{names[likeliest]} ({100 * y[likeliest]:.0f} %)"
    return str(names[y]) if names else f"{y:.3g}"
