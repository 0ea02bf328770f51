"""The checks of a training run: what the linear head that it fits anyway has read and said is used again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bort.data.tables.examples import Example
from bort.finetuning.first_token import MEAN
from bort.finetuning.splits import Splits
from bort.finetuning.student_head import StudentHead, learned_from
from bort.inspection.examine import ENGLISH_MODELS
from bort.inspection.inspect import Inspection, NearTexts, doubts_in, languages_in, near_in
from bort.predict.encoder import of_length_1

_MOST_READ = 2000
"""Texts whose language is looked at: it takes 30 ms."""
_MOST_COMPARED = 5000
"""Texts that are looked at for near duplicates: each is compared with each, which takes a second on one core."""
_MOST_KEPT = 50
"""Near duplicates, and doubtful labels, that `metrics.json` has."""


def inspect_briefly(data: Splits, head: StudentHead | None, model: str) -> Inspection:
    """Look at a run's data in about a second.

    Near duplicates are looked for among single texts, where the model is one whose vectors say how near texts are.

    Args:
        data: Of the run.
        head: Of the run; None where there is none, and nothing is said of labels and of near duplicates.
        model: The student, as the settings name it.
    """
    parts = {"train": data.train, **data.parts}
    english = model in ENGLISH_MODELS
    languages = languages_in(parts, most=_MOST_READ) if english else None
    if head is None:
        return Inspection(data.check, languages)
    labelled = {"train": learned_from(data.train), "dev": data.dev}
    doubts = doubts_in(labelled, head.whole.out_of_fold, head.targets, data.task)
    near, compared = None, 0
    if english and data.train[0].text_b is None and MEAN in head.features:
        near, compared = _near(labelled, data.test or [], head)
    return Inspection(data.check, languages, near, doubts, compared, head.targets.size)


def figures(inspection: Inspection) -> dict[str, Any]:
    """What `metrics.json` keeps of it, beside the `DataCheck`: all counts, and the first of each kind."""
    found = inspection
    return {
        "languages": None if found.languages is None else asdict(found.languages),
        "compared": found.compared,
        "near_count": None if found.near is None else len(found.near),
        "near": [asdict(each) | {"labels": [*each.labels]} for each in (found.near or ())[:_MOST_KEPT]],
        "judged": found.judged,
        "doubts_count": None if found.doubts is None else len(found.doubts),
        "doubts": [asdict(each) for each in (found.doubts or ())[:_MOST_KEPT]],
    }


def _near(
    labelled: dict[str, list[Example]], test: list[Example], head: StudentHead
) -> tuple[tuple[NearTexts, ...], int]:
    """Near duplicates among the texts that the head has read, and the test data."""
    vectors = [head.features[MEAN]]
    parts = dict(labelled)
    if test:
        vectors.append(head.features_of(test)[MEAN])
        parts["test"] = test
    x = of_length_1(np.concatenate(vectors))
    chosen = np.sort(np.random.default_rng(0).permutation(len(x))[:_MOST_COMPARED])
    starts = np.cumsum([0, *map(len, parts.values())])
    few = {
        name: [part[place - start] for place in chosen[(chosen >= start) & (chosen < start + len(part))]]
        for (name, part), start in zip(parts.items(), starts, strict=False)
    }
    return near_in(few, [x[chosen]]), len(chosen)
