"""The pieces of an explanation."""

from __future__ import annotations

import asyncio
import json
import shutil

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.examples import Example
from bort.predict.predictor import Predictor
from bort.serve import app, asking
from bort.serve.errors import Kind, Refused
from bort.serve.explain import MOST_CHARACTERS, explain, pieces
from bort.serve.metrics import Metrics
from bort.serve.model import ServedModel
from bort.serve.registry import Registry
from bort.serve.settings import Limits
from conftest import LABELS


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

    async def answers_to(examples):
        asked.append(len(examples))
        return ("a", "b"), np.full((len(examples), 2), 0.5, np.float32)

    half = "a " * (MOST_CHARACTERS // 4)
    asyncio.run(explain(Example(half, half), None, answers_to))
    assert asked == [49]
    for example in (Example("a" * (MOST_CHARACTERS + 1)), Example(half, half + "a")):
        with pytest.raises(Refused, match="must have at most 20,000 characters, not 20,001") as refused:
            asyncio.run(explain(example, None, answers_to))
        assert refused.value.kind is Kind.TOO_LARGE
    assert asked == [49]


@pytest.mark.parametrize("label", [None, LABELS[0]])
def test_the_label_is_that_of_the_model_that_answers(exported, tmp_path, monkeypatch, sentences, label):
    """A model with the same labels in another order replaces the one that was there when the request came."""
    folder = tmp_path / "live"
    shutil.copytree(exported, folder)
    registry = Registry({"m": str(folder)}, lambda name, folder: ServedModel(name, folder, Limits(), threads=1))

    async def outputs_of(*where, **how):
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        manifest["task"]["names"].reverse()
        (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        assert registry.reload(only_replaced=True) == [("m", None)]
        return await asking.outputs_of(*where, **how)

    monkeypatch.setattr(app, "outputs_of", outputs_of)

    async def ask() -> dict[str, object]:
        transport = httpx.ASGITransport(app.build(registry, Metrics(), "0"))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.post("/explain", json={"inputs": sentences[0], "label": label})).json()

    found = asyncio.run(ask())
    registry.close()
    expected = Predictor(str(folder)).predict(sentences[0])
    assert found["label"] == (label or expected.label)
    assert found["score"] == pytest.approx(expected.probabilities[found["label"]], abs=1e-5)
