"""The queue before a model."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from bort.serve.batcher import Batcher
from bort.serve.errors import Kind, Refused
from serve.conftest import in_a_loop


class Words(list[str]):
    tokens = property(len)


def join(parts):
    return Words(word for part in parts for word in part)


def lengths(words):
    return np.array([[len(word)] for word in words], np.float32)


class Gate:
    """A model that waits until it is let."""

    def __init__(self, run) -> None:
        self.run, self.open, self.entered, self.seen = run, threading.Event(), threading.Event(), []

    def __call__(self, words):
        self.seen.append(list(words))
        self.entered.set()
        assert self.open.wait(10)
        return self.run(words)


async def asked(batcher, words):
    with batcher.admitted() as since:
        return await batcher.submit(words, since)


async def begun(batcher, *words):
    """A request that has reached the queue."""
    request = asyncio.ensure_future(asked(batcher, Words(words)))
    await asyncio.sleep(0.01)
    return request


@asynccontextmanager
async def busy(run=lengths, **limits):
    """A model behind its gate, its batcher, and a first request that the model is at."""
    gate = Gate(run)
    batcher = Batcher(gate, join, **limits)
    try:
        first = await begun(batcher, "first")
        await asyncio.to_thread(gate.entered.wait, 10)
        yield gate, batcher, first
    finally:
        gate.open.set()
        await asyncio.to_thread(batcher.close)


@in_a_loop
async def test_what_waits_is_one_batch_within_the_budget_and_in_order():
    batches = []
    async with busy(max_batch_tokens=5, observe=lambda *told: batches.append(told[:2])) as (gate, batcher, first):
        others = [await begun(batcher, *["x" * n] * 2) for n in range(1, 5)]
        gate.open.set()
        answers = [row[:, 0].tolist() for row in await asyncio.gather(first, *others)]
    assert answers == [[5], [1, 1], [2, 2], [3, 3], [4, 4]]
    assert batches == [(1, 1), (4, 4), (4, 4)]


@in_a_loop
async def test_a_full_queue_refuses_at_once():
    async with busy(max_waiting=2) as (gate, batcher, first):
        second = await begun(batcher, "second")
        started = time.perf_counter()
        with pytest.raises(Refused) as refused:
            await asked(batcher, Words(["third"]))
        assert time.perf_counter() - started < 1
        gate.open.set()
        await asyncio.gather(first, second)
    assert refused.value.kind is Kind.OVERLOADED


@in_a_loop
async def test_what_its_client_has_left_is_not_computed():
    async with busy(max_waiting=2) as (gate, batcher, first):
        left = await begun(batcher, "left")
        left.cancel()
        await asyncio.sleep(0.01)
        kept = await begun(batcher, "kept")  # in its place
        gate.open.set()
        await asyncio.gather(first, kept)
    assert gate.seen == [["first"], ["kept"]]
    assert batcher.depth == 0


@in_a_loop
async def test_what_has_waited_too_long_is_refused_instead_of_computed():
    async with busy(max_wait_seconds=0.05) as (gate, batcher, first):
        late = await begun(batcher, "late")
        await asyncio.sleep(0.2)
        gate.open.set()
        await first
        with pytest.raises(Refused, match="waited"):
            await late
    assert gate.seen == [["first"]]


@in_a_loop
async def test_a_request_has_its_place_before_it_is_tokenised():
    batcher = Batcher(lengths, join, max_waiting=1, max_wait_seconds=0.05)
    with batcher.admitted() as since:
        assert batcher.depth == 1
        with pytest.raises(Refused, match="overloaded"):
            await asked(batcher, Words(["second"]))
        with pytest.raises(Refused, match="waited"):
            await batcher.submit(Words(["tokenised for long"]), since - 1)
    await asked(batcher, Words(["third"]))
    await asyncio.to_thread(batcher.close)
    assert batcher.depth == 0


@in_a_loop
async def test_a_failure_is_its_own_requests_alone():
    def run(words):
        if "bad" in words:
            raise ValueError("cannot compute\nmore")
        return lengths(words)

    async with busy(run) as (gate, batcher, first):
        bad, good = await begun(batcher, "bad"), await begun(batcher, "good")
        gate.open.set()
        await first
        with pytest.raises(Refused) as refused:
            await bad
        rows = await good
    assert (refused.value.kind, refused.value.message) == (Kind.BACKEND, "cannot compute")
    assert rows.tolist() == [[4]]
    assert gate.seen[1] == ["bad", "good"]


@in_a_loop
async def test_closing_answers_what_was_accepted_and_takes_no_more():
    async with busy() as (gate, batcher, first):
        second = await begun(batcher, "second")
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as refused:
            await asked(batcher, Words(["third"]))
        gate.open.set()
        await closing
        assert [(await one).tolist() for one in (first, second)] == [[[5]], [[6]]]
    assert refused.value.kind is Kind.UNHEALTHY
