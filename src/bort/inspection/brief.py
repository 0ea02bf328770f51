"""The data checks of a training run, which reuse the features and predictions of its linear head."""

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
"""Most texts whose language is checked, which takes 30 ms."""
_MOST_COMPARED = 5000
"""Most texts that are searched for near duplicates: comparing all pairs takes a second on one core."""
_MOST_KEPT = 50
"""Most near duplicates, and doubtful labels, in `metrics.json`."""


def inspect_briefly(data: Splits, head: StudentHead | None, model: str) -> Inspection:
    """Check a run's data in about a second.

    Near duplicates are searched only among single texts, and only with a model whose vectors measure their similarity.

    Args:
        data: Data of the run.
        head: Linear head of the run; with None, labels are not checked and near duplicates not searched.
        model: The student, as named in the settings.
    """
    parts = {"train": data.train, **data.parts}
    english = model in ENGLISH_MODELS
    languages = languages_in(parts, most=_MOST_READ) if english else None
    if head is None:
        return Inspection(data.check, languages)
    labelled = {"train": learned_from(data.train), "dev": data.dev}
    doubts, judged = doubts_in(labelled, head.whole.out_of_fold, head.targets, data.task)
    near, compared = None, 0
    if english and data.train[0].text_b is None and MEAN in head.features:
        near, compared = _near(labelled, data.test or [], head, numbers=data.task.kind == "regression")
    return Inspection(data.check, languages, near, doubts, compared, judged)


def figures(inspection: Inspection) -> dict[str, Any]:
    """Entries for `metrics.json`, in addition to the `DataCheck`: all counts, and the first findings of each kind."""
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
    labelled: dict[str, list[Example]], test: list[Example], head: StudentHead, *, numbers: bool
) -> tuple[tuple[NearTexts, ...], int]:
    """Near duplicates among the texts that the head was fitted to and the test data."""
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
    return near_in(few, [x[chosen]], numbers=numbers), len(chosen)
