"""The pieces of an explanation."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.serve.errors import Kind, Refused
from bort.serve.explain import MOST_CHARACTERS, explain, pieces


@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 20))
def test_a_text_or_pair_has_at_most_as_many_pieces_as_asked(first, second, most):
    example = Example("one " * first, "two " * second)
    found = pieces(example, most)
    assert len(found) <= most
    texts = {"text": example.text, "text_b": example.text_b or ""}
    words = [word for name, start, end in found for word in texts[name][start:end].split()]
    assert words == ["one"] * first + ["two"] * second


def test_a_long_text_or_pair_is_refused_before_any_work():
    asked = []

    async def probabilities_of(examples):
        asked.append(len(examples))
        return np.full((len(examples), 2), 0.5, np.float32)

    half = "a " * (MOST_CHARACTERS // 4)
    asyncio.run(explain(Example(half, half), None, probabilities_of))
    assert asked == [49]
    for example in (Example("a" * (MOST_CHARACTERS + 1)), Example(half, half + "a")):
        with pytest.raises(Refused, match="must have at most 20,000 characters, not 20,001") as refused:
            asyncio.run(explain(example, None, probabilities_of))
        assert refused.value.kind is Kind.TOO_LARGE
    assert asked == [49]
