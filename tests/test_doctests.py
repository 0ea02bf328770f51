"""The examples in public docstrings run."""

from __future__ import annotations

import doctest

import pytest

import bort

NAMES = [name for name in bort.__all__ if name != "__version__" and ">>>" in (getattr(bort, name).__doc__ or "")]


def test_the_main_entrances_have_examples():
    assert {"BortClassifier", "BortRegressor", "finetune", "info", "architecture", "load_tokenizer"} <= {*NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_example(name):
    found = getattr(bort, name)
    example = doctest.DocTestParser().get_doctest(found.__doc__, {name: found}, name, None, 0)
    with bort.verbose(False):
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert results.attempted or "+SKIP" in found.__doc__  # what needs an index of one's own
    assert not results.failed
