"""What every test shares: no network, a tiny tokenizer, a tiny shape, and the data of ../shared where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import pytest
from hypothesis import settings

from bort.model.config import architecture
from bort.model.tokenization import train_tokenizer

# How long an example takes depends on what else the machine does.
settings.register_profile("bort", deadline=None)
settings.load_profile("bort")

_SHARED = Path(__file__).parents[1].parent / "shared"
_WHO = ("The old baker", "A quiet student", "My sister", "The grey cat", "Nobody here", "Dr. Müller", "The committee")
_DOES = ("walked to", "wrote about", "never liked", "is painting", "sold", "dreamt of", "counted")
_WHAT = (
    "the harbour",
    "seven green apples",
    "a broken clock",
    "café tables",
    "her neighbour's garden",
    "x = 3 * (y - 1)",
)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository."""
    if not _SHARED.is_dir():
        pytest.skip("the reference data (the folder `shared` beside the repository) is absent")
    return _SHARED


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """294 different sentences."""
    return [f"{who} {does} {what}." for who in _WHO for does in _DOES for what in _WHAT]


@pytest.fixture(scope="session")
def tiny_tokenizer(sentences):
    """A byte-level BPE of 400 entries."""
    return train_tokenizer(sentences, vocab_size=400)


@pytest.fixture
def tiny_config(tiny_tokenizer, tmp_path_factory):
    """A configuration of 2 layers, 2 heads, hidden size 16, that a test may change."""
    shape = {"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64}
    file = tmp_path_factory.mktemp("shape") / "architecture.json"
    file.write_text(json.dumps({**shape, "vocab_size": len(tiny_tokenizer)}))
    return architecture(file)
