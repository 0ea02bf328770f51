"""The examples in public docstrings run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import bort

# What needs a model that was fine-tuned or pre-trained before, or is a result of such a command; the pages of the
# documentation show these, and their tests run them. Make this shorter, not longer.
WITHOUT = {
    "BortForMaskedLM",
    "BortForMultipleChoice",
    "BortForSequenceClassification",
    "EvaluateResult",
    "ExportResult",
    "ExtractResult",
    "FinetuneResult",
    "FitReport",
    "FolderResult",
    "Predictor",
    "PretrainResult",
    "benchmark",
    "convert",
    "demo",
    "evaluate",
    "export",
    "extract",
    "index",
    "predict",
    "pretrain",
    "serve",
    "shrink",
    "submit",
}


def documented() -> Iterator[tuple[str, Any]]:
    """The public names, and the methods of public classes that have an example of their own."""
    for name in bort.__all__:
        if name == "__version__":
            continue
        found = getattr(bort, name)
        yield name, found
        if inspect.isclass(found):
            for own, method in vars(found).items():
                if not own.startswith("_") and inspect.isfunction(method) and ">>>" in (method.__doc__ or ""):
                    yield f"{name}.{own}", method


EXAMPLES = {name: found for name, found in documented() if ">>>" in (found.__doc__ or "")}


def test_every_other_public_name_has_an_example():
    assert {name for name, _ in documented()} - EXAMPLES.keys() == WITHOUT


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    found = EXAMPLES[name]
    first = name.split(".")[0]
    example = doctest.DocTestParser().get_doctest(found.__doc__, {first: getattr(bort, first)}, name, None, 0)
    with bort.verbose(False):
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert results.attempted or "+SKIP" in found.__doc__  # what needs an index of one's own
    assert not results.failed
