"""Labels mixed with a linear head's predictions, which make a model less certain of wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.rounds import Point, Trial
from bort.agora.session import Session
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.finetuning.linear_head import loss_of
from bort.tasks.task import Says, Task


def softened(session: Session, best: Trial[TrainedWeights]) -> list[Point]:
    """Return all labelled examples, with labels mixed with a linear head's out-of-fold predictions if that helps."""
    examples = [*session.data.train, *session.data.dev]
    if not opinions_help(session, best):
        return session.points(examples)
    assert session.out_of_fold is not None
    return with_opinions(session.task, examples, session.task.targets(examples), session.out_of_fold)


def opinions_help(session: Session, best: Trial[TrainedWeights]) -> bool:
    """Whether to mix a linear head's predictions into the labels: its log-loss must be below the plain trial's.

    Training on unmixed labels makes a model overconfident, also about wrong labels. The two are compared on the
    development data, which neither has learned.
    """
    task, head = session.task, session.head
    # Multilabel thresholds are chosen with a model of unmixed labels, and must suit the result.
    if head is None or session.out_of_fold is None or session.arguments.labels == "hard" or task.kind == "multilabel":
        return False
    theirs = task.says(np.array(best.answers, np.float32))
    return loss_of(task, head.says, head.truth) < loss_of(task, theirs, head.truth)


def with_opinions(task: Task, examples: Sequence[Example], targets: NDArray[Any], opinions: Says) -> list[Point]:
    """Average each label with a linear head's out-of-fold prediction.

    Args:
        task: The task.
        examples: Labelled examples.
        targets: Their labels.
        opinions: The out-of-fold predictions. *Shape:* (examples, outputs).
    """
    made = task.taught(task.mean([task.certain(targets), opinions]), hard=False, temperature=1.0)
    return [Point(x, y) for x, y in zip(examples, made, strict=True)]
