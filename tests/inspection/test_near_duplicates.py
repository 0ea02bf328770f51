"""Near duplicates against the definition, over blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.inspection import near_duplicates as module
from bort.inspection.near_duplicates import near_duplicates


def by_definition(vectors, texts, least):
    found = {}
    for later in range(len(texts)):
        for earlier in range(later):
            cosine = min(float(x[later] @ x[earlier]) for x in vectors)
            if texts[later] != texts[earlier] and cosine >= least and cosine > found.get(later, (-2,))[0] + 1e-6:
                found[later] = (cosine, earlier)
    return found


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 7), st.booleans())
def test_the_nearest_earlier_text_by_definition(seed, count, block, pairs):
    rng = np.random.default_rng(seed)
    vectors = []
    for _ in range(1 + pairs):
        x = rng.normal(size=(count, 3))
        vectors.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    texts = rng.integers(0, 6, count).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_ROWS", block)
        found = near_duplicates(vectors, texts, least_cosine=0.7)
    wanted = by_definition(vectors, texts, 0.7)
    assert {pair.later: round(pair.cosine, 5) for pair in found} == {k: round(v[0], 5) for k, v in wanted.items()}
    assert [pair.cosine for pair in found] == sorted((pair.cosine for pair in found), reverse=True)


def test_equal_texts_are_no_near_ones():
    same = np.array([[1.0, 0.0]] * 3)
    assert not near_duplicates([same], ["a", "a", "a"])
    assert [(p.later, p.earlier) for p in near_duplicates([same], ["a", "a", "b"])] == [(2, 0)]
