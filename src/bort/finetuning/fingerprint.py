"""Compact fingerprints of a model's training texts, to detect a model that has seen the test data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example

KEY = "train_texts"
"""Key in `metrics.json`."""
_MOST = 500


def fingerprint(examples: Iterable[Example]) -> str:
    """Hashes of the folded texts, at most 500: the smallest ones, which are a uniform sample of all (MinHash)."""
    return " ".join(sorted({_hash(example) for example in examples})[:_MOST])


def seen(folder: str | Path, examples: Sequence[Example]) -> int:
    """Count the examples that a model was fitted to, according to its run's `metrics.json`.

    With more than 500 training texts the count is too low, because only 500 hashes are kept.

    Args:
        folder: A folder of `bort finetune`; any other gives 0.
        examples: The examples, with or without labels.
    """
    try:
        known = {*json.loads((Path(folder) / "metrics.json").read_text("utf-8"))[KEY].split()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0
    return sum(_hash(example) in known for example in examples)


def digest(examples: Iterable[Example]) -> str:
    """SHA-256 of texts and labels in order."""
    found = hashlib.sha256()
    for example in examples:
        found.update(json.dumps([example.text, example.text_b, *example.choices, example.label]).encode())
    return found.hexdigest()


def _hash(example: Example) -> str:
    texts = json.dumps([fold_text(example.text), fold_text(example.text_b or ""), *example.choices])
    return hashlib.sha256(texts.encode()).hexdigest()[:10]
