"""Averaged weights of models that were trained from the same initial weights in different orders of the data.

Models fine-tuned from the same initial weights lie in one loss basin, and their averaged weights make fewer errors than
each of them, at the inference cost of one (Wortsman et al., "Model soups", arXiv 2203.05482).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bort.agora.last_trainings import MOST_CHECKED, known_score
from bort.agora.rounds import Point
from bort.agora.trial import TextLearner, TrainedWeights
from bort.finetuning.splits import drawn
from bort.progress import say

_BARRIER = 0.02
"""Maximum drop of the training score by averaging; weights from different basins lose much more."""


def averaged(
    learner: TextLearner, models: Sequence[TrainedWeights], known: Sequence[Point], shares: Sequence[int] = ()
) -> TrainedWeights:
    """Average the weights of models; return the first one instead if the average has lost what each has learned.

    Args:
        learner: Scores the models.
        models: At least one, from the same initial weights or nearly so.
        known: Training data of all models.
        shares: How often each model counts; by default once.
    """
    if len(models) < 2:
        return models[0]
    known = drawn(known, MOST_CHECKED)
    least = min(known_score(learner, model, known) for model in models) - _BARRIER
    counted = zip(models, shares or [1] * len(models), strict=True)
    weights = learner.fitter.averaged([model.read() for model, share in counted for _ in range(share)])
    about: dict[str, Any] = {**models[0].about, "seconds": sum(model.about["seconds"] for model in models)}
    mean = TrainedWeights(weights, about=about)
    if known_score(learner, mean, known) < least:
        say("the average of the last trainings has lost what each has learned: the first is the result")
        return models[0]
    return mean


def beside_plain(
    learner: TextLearner, grown: TrainedWeights, plain: Sequence[TrainedWeights], known: Sequence[Point]
) -> TrainedWeights:
    """Average the weights of a model of new texts, counted twice, and the mean of plain models.

    So the order of the data in a single training matters less. The plain models start from the same weights. Those of
    `grown` differ from them in the head if its combination has another seed, or if heads start as linear ones, which
    are fitted to the data; if such an average has lost what each has learned, `grown` is returned.

    Args:
        learner: Scores the models.
        grown: The model of new texts.
        plain: The plain models.
        known: Labelled data that all have learned.
    """
    return averaged(learner, [grown, averaged(learner, plain, known)], known, shares=(2, 1))
