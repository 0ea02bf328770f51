"""Suggests which unlabelled texts are worth labelling, given a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.data.tables.labels import Label
from bort.errors import BortError
from bort.finetuning.linear_head import fit_linear_head
from bort.inspection.choose import choose_texts, uncertainty, uncertainty_of_labels
from bort.inspection.vectors import head_features, hold_pairs, side_vectors
from bort.predict.encoder import Encoder, of_length_1
from bort.predict.engine import gives_vectors
from bort.predict.predictor import Predictor
from bort.progress import in_parts
from bort.tasks.kinds import task_of
from bort.tasks.task import Task


@dataclass(frozen=True)
class Suggestion:
    """A text that is worth labelling.

    Attributes:
        place: Index among the given texts.
        prediction: The model's prediction: the name of a class, a value, or all labels in multi-label data.
        probability: Probability of the class; None for other kinds of tasks.
    """

    place: int
    prediction: Label
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

    Blank texts are left out, and so are those equal to a labelled or an earlier text after `fold_text`.

    Args:
        pool: Texts, or pairs of texts, to choose from.
        labelled: Labelled examples; required if `model` is an encoder, because a linear head is then fitted to them.
        model: A fine-tuned or exported classifier or regressor, or an encoder. A regressor gives no uncertainty, so
            only the distances between texts decide.
        count: Number of texts to choose.
        encoder: Encoder that measures how similar texts are; ignored if `model` is an encoder.
        threads: Number of threads.

    Raises:
        BortError: An encoder comes without labelled texts, a model needs choices, or pairs and single texts are mixed.
    """
    places = _worth_reading(pool, labelled)
    texts = [pool[place] for place in places]
    if not texts:
        return []
    if labelled and hold_pairs(labelled) != hold_pairs(texts):
        rule = "must hold pairs where the texts to choose from are pairs, and single texts where they are"
        one = labelled[0]
        raise BortError(rule, file=one.source, line=one.line, column="text_b", value=one.text_b)
    own = gives_vectors(model)
    if own and len(labelled) < 2:
        raise BortError("is an encoder, which is unsure of nothing: give labelled texts", setting="model", value=model)
    with Encoder(model if own else encoder, threads=threads) as reader:
        sides = side_vectors([*texts, *labelled], reader)
    features = head_features(sides)
    if own:
        task, outputs = _head_says(features[: len(texts)], features[len(texts) :], labelled)
    else:
        task, outputs = _model_says(model, texts, threads)
    shares = task.activate(outputs)
    unsure = np.ones(len(texts))
    if task.kind == "multilabel":
        unsure = uncertainty_of_labels(shares, np.array([*task.threshold_by_name.values()]))
    elif task.names:
        unsure = uncertainty(shares)
    vectors = of_length_1(features)
    chosen = choose_texts(vectors[: len(texts)], unsure, count, labelled=vectors[len(texts) :])
    said = task.labels(outputs[chosen])
    sure = [round(float(shares[place].max()), 6) if task.kind == "classification" else None for place in chosen]
    return [Suggestion(places[place], label, share) for place, label, share in zip(chosen, said, sure, strict=True)]


def _worth_reading(pool: Sequence[Example], labelled: Sequence[Example]) -> list[int]:
    seen = {identity(example) for example in labelled}
    places = []
    for place, example in enumerate(pool):
        key = identity(example)
        if key[0] and key not in seen:
            seen.add(key)
            places.append(place)
    return places


def _head_says(
    features: NDArray[np.float32], known: NDArray[np.float32], labelled: Sequence[Example]
) -> tuple[Task, NDArray[np.float64]]:
    """The task and outputs of a linear head. *Shape:* (texts, outputs)."""
    task = task_of(labelled)
    _check_task(task, labelled[0].source)
    groups = [identity(example) for example in labelled]
    targets = task.targets(labelled)
    head = fit_linear_head({"mean": known}, targets, task, groups=groups)
    return task.fitted(head.out_of_fold, targets), head.says({"mean": features})


def _model_says(model: str, texts: Sequence[Example], threads: int | None) -> tuple[Task, NDArray[np.float64]]:
    """The task and outputs of a fine-tuned model. *Shape:* (texts, outputs)."""
    with Predictor(model, threads=threads) as predictor:
        _check_task(predictor.task, model)
        logits = [predictor.logits(part) for part in in_parts("predicting", texts)]
        return predictor.task, np.concatenate(logits).astype(np.float64)


def _check_task(task: Task, source: str) -> None:
    if task.choices:
        raise BortError("bort suggest takes no models that choose between texts", file=source)
