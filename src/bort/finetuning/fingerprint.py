"""Which texts a model was fitted to, in a few bytes: so that one that has seen the test is told of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example

KEY = "train_texts"
"""Where `metrics.json` has it."""
_MOST = 500


def fingerprint(examples: Iterable[Example]) -> str:
    """Hashes of the folded texts, at most 500 of them: the smallest, which are a fair sample of all (MinHash)."""
    return " ".join(sorted({_hash(example) for example in examples})[:_MOST])


def seen(folder: str | Path, examples: Sequence[Example]) -> int:
    """How many of the examples a model was fitted to, as far as its run's `metrics.json` tells.

    Of more than 500 training texts, each counts with the chance that its hash is among the 500 kept.

    Args:
        folder: Of `bort finetune`; any other gives 0.
        examples: Whose labels do not matter.
    """
    try:
        known = {*json.loads((Path(folder) / "metrics.json").read_text("utf-8"))[KEY].split()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0
    return sum(_hash(example) in known for example in examples)


def digest(examples: Iterable[Example]) -> str:
    """SHA-256 of texts and labels in their order."""
    found = hashlib.sha256()
    for example in examples:
        found.update(json.dumps([example.text, example.text_b, *example.choices, example.label]).encode())
    return found.hexdigest()


def _hash(example: Example) -> str:
    texts = json.dumps([fold_text(example.text), fold_text(example.text_b or ""), *example.choices])
    return hashlib.sha256(texts.encode()).hexdigest()[:10]
