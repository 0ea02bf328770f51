"""The pieces of an explanation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.serve.explain import pieces


@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 20))
def test_a_text_or_pair_has_at_most_as_many_pieces_as_asked(first, second, most):
    example = Example("one " * first, "two " * second)
    found = pieces(example, most)
    assert len(found) <= most
    texts = {"text": example.text, "text_b": example.text_b or ""}
    words = [word for name, start, end in found for word in texts[name][start:end].split()]
    assert words == ["one"] * first + ["two"] * second
