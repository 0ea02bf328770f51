"""Examines labelled texts with an encoder: lengths, near duplicates, and labels that a linear head finds doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bort.data.tables.checks import check_examples, identity
from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind, class_labels, infer_kind, unify_labels
from bort.errors import BortError
from bort.finetuning.linear_head import fit_linear_head
from bort.inspection.inspect import Doubt, Inspection, Parts, doubts_in, languages_in, near_in
from bort.inspection.lengths import Lengths, lengths_of
from bort.inspection.vectors import head_features, hold_pairs, side_vectors
from bort.predict.encoder import Encoder, Vectors
from bort.progress import in_parts, say
from bort.tasks.kinds import task_of

ENGLISH_MODELS = frozenset({"bort-nano"})
"""Models that know only English; the languages of other models are unknown."""
_SLOW_LABELS = 2000
"""Fitting a head to more labels takes more than two seconds."""


@dataclass(frozen=True)
class Examined:
    """Result of `examine`.

    Attributes:
        inspection: The findings.
        lengths: Lengths in tokens, by part; empty without an encoder.
        labels: How many rows each label has, by part, the most frequent first.
    """

    inspection: Inspection
    lengths: dict[str, Lengths]
    labels: dict[str, dict[str, int]]


def examine(
    parts: Parts,
    model: str | None,
    *,
    kind: Literal["auto"] | Kind = "auto",
    max_length: int,
    most: int,
    threads: int | None = None,
) -> Examined:
    """Run all checks. Labels of later parts that write a number differently are renamed, as for training.

    Args:
        parts: Examples by part, each with at least one, with or without labels.
        model: The encoder; None runs only the checks that need none.
        kind: Kind of the labels; by default that of the first labelled part.
        max_length: Number of tokens at which texts will be truncated.
        most: Most texts that the encoder embeds, sampled at random from larger data.
        threads: Number of threads of the encoder.

    Raises:
        BortError: Pairs and single texts are mixed, or the encoder cannot be loaded.
    """
    _check_alike(parts)
    train = next((part for part in parts.values() if part[0].label is not None), None)
    decided = "classification" if train is None else infer_kind(train) if kind == "auto" else kind
    named = [class_labels(part) if decided == "classification" else part for part in parts.values()]
    parts = dict(zip(parts, unify_labels(named), strict=True))
    labelled = {name: part for name, part in parts.items() if part[0].label is not None}
    check = check_examples(parts, numbers=decided == "regression")
    labels = {} if decided == "regression" else {name: _counts(part) for name, part in labelled.items()}
    languages = languages_in(parts) if model is None or model in ENGLISH_MODELS else None
    if model is None:
        return Examined(Inspection(check, languages), {}, labels)
    share = min(1.0, most / sum(map(len, parts.values())))
    few = {name: _drawn(part, max(1, round(share * len(part)))) for name, part in parts.items()}
    with Encoder(model, threads=threads) as encoder:
        lengths = {name: _lengths(part, encoder, max_length) for name, part in parts.items()}
        vectors = side_vectors([example for part in few.values() for example in part], encoder)
    near = near_in(few, vectors, numbers=decided == "regression")
    doubts, judged = _doubts(few, vectors, decided)
    compared = len(vectors[0])
    return Examined(Inspection(check, languages, near, doubts, compared, judged), lengths, labels)


def _check_alike(parts: Parts) -> None:
    first = next(iter(parts.values()))
    for part in parts.values():
        if hold_pairs(part) != hold_pairs(first):
            rule = f"must hold pairs where {first[0].source} does, and single texts where it does"
            one = next((each for each in part if each.text_b is not None), part[0])
            raise BortError(rule, file=one.source, line=one.line, column="text_b", value=one.text_b)


def _drawn(part: Sequence[Example], count: int) -> list[Example]:
    """A fixed random sample in its original order."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(part))[:count])
    return [part[int(place)] for place in chosen]


def _counts(part: Sequence[Example]) -> dict[str, int]:
    # An array of labels would pad each one to the longest.
    labels = [one.label if isinstance(one.label, tuple) else [one.label] for one in part]
    counts = Counter(str(name) for several in labels for name in several)
    return dict(sorted(counts.items(), key=lambda found: (-found[1], found[0])))


def _lengths(part: Sequence[Example], encoder: Encoder, limit: int) -> Lengths:
    tokens = np.zeros(len(part), np.int64)
    for side in (0, 1):
        texts = [Example(one.text if side == 0 else one.text_b or "") for one in part]
        if side == 0 or hold_pairs(part):
            # The second text of a pair has no first special token of its own.
            counted = [n for some in in_parts("counting tokens", texts) for n in encoder.engine.whole_lengths(some)]
            tokens += np.array(counted) - side
    return lengths_of(tokens.tolist(), limit)


def _doubts(parts: Parts, vectors: Sequence[Vectors], kind: Kind) -> tuple[tuple[Doubt, ...] | None, int]:
    """Labels that a head finds doubtful, and how many it judged; None if there are fewer than two distinct labels."""
    known = np.array([example.label is not None for part in parts.values() for example in part])
    labelled = {name: part for name, part in parts.items() if part[0].label is not None}
    examples = [example for part in labelled.values() for example in part]
    labels = [one.label if isinstance(one.label, tuple) else (one.label,) for one in examples]
    if len(examples) < 2 or len({name for several in labels for name in several}) < 2:
        return None, 0
    task = task_of(examples, kind=kind)
    targets = task.targets(examples)
    if len(examples) > _SLOW_LABELS:
        say(f"fitting a linear head to {len(examples):,} labels")
    groups = [identity(one) for one in examples]
    head = fit_linear_head({"mean": head_features([x[known] for x in vectors])}, targets, task, groups=groups)
    return doubts_in(labelled, head.out_of_fold, targets, task)
