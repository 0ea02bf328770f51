"""What a run knows of mistakes: which texts are wrong, taken for what, and where models disagree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.generators import Generator
from bort.agora.session import Session
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.data.tables.labels import shown_label
from bort.tasks.task import Task


def missed(session: Session) -> list[int]:
    """Return places of the training data that a linear head on the frozen student gets wrong out of fold."""
    train, found = session.data.train, session.out_of_fold
    if found is None:
        return []
    said, truth = found[: len(train)].tolist(), session.task.targets(train).tolist()
    return [place for place, fine in enumerate(session.learner.right(said, truth)) if not fine]


def disputed(session: Session, texts: Sequence[Example]) -> NDArray[Any]:
    """Return how much the best model of the last finished round and a linear head disagree. *Shape:* (texts,).

    This is the L1 distance of their probabilities, or the difference of their values.
    """
    trial, head, task = session.journal.latest(), session.head, session.task
    assert trial is not None, "no round has ended"
    assert head is not None, "nobody disagrees"
    one, other = session.learner.says(trial.model, texts), head.whole.says(head.features_of(texts))
    apart: NDArray[Any] = np.abs(task.activate(one) - task.activate(other)).sum(-1)
    return apart


def written(
    session: Session, generator: Generator, mistakes: Sequence[Example], rng: random.Random
) -> list[list[Example]]:
    """Let a generator write texts near mistakes, given the model's wrong predictions."""
    return generator(mistakes, _taken_for(session, mistakes), rng)


def _taken_for(session: Session, mistakes: Sequence[Example]) -> list[str | None]:
    """Return a wrong prediction for each mistake by a model that has not learned it; None if there is none.

    For development texts, the model is the best of the last finished round; for training texts, the linear head.
    """
    data, task, trial = session.data, session.task, session.journal.latest()
    said: dict[Any, Any] = {}
    if (found := session.out_of_fold) is not None:
        said |= dict(zip(map(identity, data.train), found, strict=False))
    if trial is not None:
        said |= dict(zip(map(identity, data.dev), trial.answers, strict=True))
    rows = [said.get(identity(mistake)) for mistake in mistakes]
    if said:
        places = {identity(example): place for place, example in enumerate([*data.train, *data.dev])}
        known = [name for name in said if name in places]
        truth = task.targets([*data.train, *data.dev])[[places[name] for name in known]]
        task = task.fitted(np.array([said[name] for name in known]), truth)
    named = [None if row is None else shown_answer(task, np.array(row)) for row in rows]
    told = [None if mistake.label is None else shown_label(mistake.label) for mistake in mistakes]
    return [None if name == label else name for name, label in zip(named, told, strict=True)]


def shown_answer(task: Task, said: NDArray[Any]) -> str:
    """Format an answer for display. *Shape:* (outputs,)."""
    [label] = task.labels(said[None])
    return f"{label:g}" if isinstance(label, float) else shown_label(label)
