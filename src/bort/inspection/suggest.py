"""From a model and unlabelled texts to those that are worth a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.linear_head import fit_linear_head
from bort.inspection.choose import choose_texts, uncertainty
from bort.inspection.vectors import head_features, side_vectors
from bort.predict.encoder import Encoder, of_length_1
from bort.predict.engine import gives_vectors
from bort.predict.predictor import Predictor
from bort.progress import in_parts
from bort.tasks.kinds import task_of
from bort.tasks.task import Task


@dataclass(frozen=True)
class Suggestion:
    """A text that is worth a label.

    Attributes:
        place: Among the texts that were given.
        prediction: What the model says of it, as a class by name or a value.
        probability: Of the class; None for values.
    """

    place: int
    prediction: str | float
    probability: float | None


def suggest_texts(
    pool: Sequence[Example],
    labelled: Sequence[Example],
    model: str,
    *,
    count: int,
    encoder: str = "bort-nano",
    threads: int | None = None,
) -> list[Suggestion]:
    """Choose texts to label, the most useful first.

    Texts that are blank, that are labelled already, or that are equal to an earlier one but for what `fold_text` folds,
    are left out.

    Args:
        pool: Texts, or pairs of texts, that may be labelled.
        labelled: What is labelled already; needed where `model` is an encoder, to which a linear head is fitted then.
        model: A fine-tuned or exported classifier or regressor, or an encoder. A regressor is sure of nothing and of
            everything: only how unlike texts are decides then.
        count: How many.
        encoder: Says how near texts are; `model` itself, where that is an encoder.
        threads: Of the computation.

    Raises:
        BortError: An encoder without labelled texts, a model of several labels a text or of choices, texts here and
            pairs there.
    """
    places = _worth_reading(pool, labelled)
    texts = [pool[place] for place in places]
    if not texts:
        return []
    for part in (texts, labelled):
        if part and (part[0].text_b is None) != (texts[0].text_b is None):
            rule = "must hold pairs where the texts to choose from are pairs, and single texts where they are"
            raise BortError(rule, file=part[0].source, line=part[0].line, column="text_b", value=part[0].text_b)
    own = gives_vectors(model)
    if own and len(labelled) < 2:
        raise BortError("is an encoder, which is unsure of nothing: give labelled texts", setting="model", value=model)
    with Encoder(model if own else encoder, threads=threads) as reader:
        sides = side_vectors([*texts, *labelled], reader)
    features = head_features(sides)
    if own:
        task, says = _head_says(features[: len(texts)], features[len(texts) :], labelled)
    else:
        task, says = _model_says(model, texts, threads)
    unsure = uncertainty(says) if task.names else np.ones(len(texts))
    vectors = of_length_1(features)
    chosen = choose_texts(vectors[: len(texts)], unsure, count, labelled=vectors[len(texts) :])
    return [_suggestion(places[place], says[place], task) for place in chosen]


def _worth_reading(pool: Sequence[Example], labelled: Sequence[Example]) -> list[int]:
    seen = {_folded(example) for example in labelled}
    places = []
    for place, example in enumerate(pool):
        key = _folded(example)
        if key[0] and key not in seen:
            seen.add(key)
            places.append(place)
    return places


def _folded(example: Example) -> tuple[str, str]:
    return fold_text(example.text), fold_text(example.text_b or "")


def _head_says(
    features: NDArray[np.float32], known: NDArray[np.float32], labelled: Sequence[Example]
) -> tuple[Task, NDArray[np.float64]]:
    """Probabilities, or values, of a linear head. *Shape:* (texts, outputs)."""
    task = task_of(labelled)
    _check_task(task, labelled[0].source)
    groups = [_folded(example) for example in labelled]
    head = fit_linear_head({"mean": known}, task.targets(labelled), task, groups=groups)
    says = head.says({"mean": features})
    return task, np.exp(says) if task.names else says


def _model_says(model: str, texts: Sequence[Example], threads: int | None) -> tuple[Task, NDArray[np.float64]]:
    """Probabilities, or values, of a fine-tuned model. *Shape:* (texts, outputs)."""
    with Predictor(model, threads=threads) as predictor:
        task = predictor.task
        _check_task(task, model)
        logits = np.concatenate([predictor.logits(part) for part in in_parts("predicting", texts)]).astype(np.float64)
    if not task.names:
        return task, logits
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return task, shares / shares.sum(1, keepdims=True)


def _check_task(task: Task, source: str) -> None:
    if task.choices or task.kind not in ("classification", "regression"):
        raise BortError("bort suggest takes models and data with one label or number a text", file=source)


def _suggestion(place: int, says: NDArray[np.float64], task: Task) -> Suggestion:
    if not task.names:
        return Suggestion(place, float(says[0]), None)
    best = int(says.argmax())
    return Suggestion(place, task.names[best], round(float(says[best]), 6))
