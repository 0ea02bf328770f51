"""From texts to outputs, with a model that needs nothing."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.serve.asking import outputs_of
from bort.serve.batcher import Batcher
from bort.serve.errors import Refused
from serve.conftest import in_a_loop

LONG = Example("word " * 2000)
"""It is tokenised in a thread."""


class Words(list[str]):
    tokens = property(len)


@in_a_loop
async def test_long_texts_take_their_place_while_they_are_tokenised():
    started, let_go = threading.Event(), threading.Event()

    def encode(examples, truncate):
        started.set()
        assert let_go.wait(10)
        return Words(["a"])

    batcher = Batcher(lambda words: np.ones((len(words), 2), np.float32), lambda parts: parts[0], max_waiting=1)
    model = SimpleNamespace(encodes=False, encode=encode, batcher=batcher, outputs=batcher.submit)
    registry = SimpleNamespace(get=lambda name: model, healthy=True)
    first = asyncio.ensure_future(outputs_of(registry, None, [LONG]))
    await asyncio.to_thread(started.wait, 10)
    with pytest.raises(Refused, match="overloaded"):
        await outputs_of(registry, None, [LONG])
    let_go.set()
    assert (await first).values.shape == (1, 2)
    await asyncio.to_thread(batcher.close)
    assert batcher.depth == 0
