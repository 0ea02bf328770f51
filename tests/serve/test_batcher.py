"""The queue before a model."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from bort.serve.batcher import Batcher
from bort.serve.errors import Kind, Refused


class Words(list[str]):
    tokens = property(len)


def join(parts):
    return Words(word for part in parts for word in part)


def lengths(words):
    return np.array([[len(word)] for word in words], np.float32)


class Gate:
    """A model that waits until it is let."""

    def __init__(self) -> None:
        self.open, self.entered, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, words):
        self.seen.append(list(words))
        self.entered.set()
        assert self.open.wait(10)
        return lengths(words)


async def asked(batcher, words):
    with batcher.admitted() as since:
        return await batcher.submit(words, since)


async def busy(gate, batcher):
    """A first request that the model is at."""
    first = asyncio.ensure_future(asked(batcher, Words(["first"])))
    await asyncio.to_thread(gate.entered.wait, 10)
    return first


def test_what_waits_is_one_batch_within_the_budget_and_in_order():
    async def main():
        gate, batches = Gate(), []
        batcher = Batcher(gate, join, max_batch_tokens=5, observe=lambda *told: batches.append(told[:2]))
        first = await busy(gate, batcher)
        others = [asyncio.ensure_future(asked(batcher, Words(["x" * n] * 2))) for n in range(1, 5)]
        await asyncio.sleep(0.05)
        gate.open.set()
        answers = [row[:, 0].tolist() for row in await asyncio.gather(first, *others)]
        await asyncio.to_thread(batcher.close)
        return answers, batches

    answers, batches = asyncio.run(main())
    assert answers == [[5], [1, 1], [2, 2], [3, 3], [4, 4]]
    assert batches == [(1, 1), (4, 4), (4, 4)]


def test_a_full_queue_refuses_at_once():
    async def main():
        gate = Gate()
        batcher = Batcher(gate, join, max_waiting=2)
        first = await busy(gate, batcher)
        second = asyncio.ensure_future(asked(batcher, Words(["second"])))
        await asyncio.sleep(0.01)
        started = time.perf_counter()
        with pytest.raises(Refused) as refused:
            await asked(batcher, Words(["third"]))
        took = time.perf_counter() - started
        gate.open.set()
        await asyncio.gather(first, second)
        await asyncio.to_thread(batcher.close)
        return refused.value.kind, took

    kind, took = asyncio.run(main())
    assert kind is Kind.OVERLOADED
    assert took < 1


def test_what_its_client_has_left_is_not_computed():
    async def main():
        gate = Gate()
        batcher = Batcher(gate, join, max_waiting=2)
        first = await busy(gate, batcher)
        left = asyncio.ensure_future(asked(batcher, Words(["left"])))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0.01)
        kept = asyncio.ensure_future(asked(batcher, Words(["kept"])))  # in its place
        await asyncio.sleep(0.01)
        gate.open.set()
        await asyncio.gather(first, kept)
        await asyncio.to_thread(batcher.close)
        return gate.seen, batcher.depth

    seen, depth = asyncio.run(main())
    assert seen == [["first"], ["kept"]]
    assert depth == 0


def test_what_has_waited_too_long_is_refused_instead_of_computed():
    async def main():
        gate = Gate()
        batcher = Batcher(gate, join, max_wait_seconds=0.05)
        first = await busy(gate, batcher)
        late = asyncio.ensure_future(asked(batcher, Words(["late"])))
        await asyncio.sleep(0.2)
        gate.open.set()
        await first
        with pytest.raises(Refused, match="waited"):
            await late
        await asyncio.to_thread(batcher.close)
        return gate.seen

    assert asyncio.run(main()) == [["first"]]


def test_a_request_has_its_place_before_it_is_tokenised():
    async def main():
        batcher = Batcher(lengths, join, max_waiting=1, max_wait_seconds=0.05)
        with batcher.admitted() as since:
            assert batcher.depth == 1
            with pytest.raises(Refused, match="overloaded"):
                await asked(batcher, Words(["second"]))
            with pytest.raises(Refused, match="waited"):
                await batcher.submit(Words(["tokenised for long"]), since - 1)
        await asked(batcher, Words(["third"]))
        await asyncio.to_thread(batcher.close)
        return batcher.depth

    assert asyncio.run(main()) == 0


def test_a_failure_is_its_own_requests_alone():
    def run(words):
        if "bad" in words:
            raise ValueError("cannot compute\nmore")
        return lengths(words)

    async def main():
        gate = Gate()

        def gated(words):
            return gate(words) if words == ["first"] else run(words)

        batcher = Batcher(gated, join)
        first = await busy(gate, batcher)
        bad = asyncio.ensure_future(asked(batcher, Words(["bad"])))
        good = asyncio.ensure_future(asked(batcher, Words(["good"])))
        await asyncio.sleep(0.02)
        gate.open.set()
        await first
        with pytest.raises(Refused) as refused:
            await bad
        rows = await good
        await asyncio.to_thread(batcher.close)
        return refused.value, rows.tolist()

    refused, rows = asyncio.run(main())
    assert (refused.kind, refused.message) == (Kind.BACKEND, "cannot compute")
    assert rows == [[4]]


def test_closing_answers_what_was_accepted_and_takes_no_more():
    async def main():
        gate = Gate()
        batcher = Batcher(gate, join)
        first = await busy(gate, batcher)
        second = asyncio.ensure_future(asked(batcher, Words(["second"])))
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as refused:
            await asked(batcher, Words(["third"]))
        gate.open.set()
        await closing
        return refused.value.kind, [(await one).tolist() for one in (first, second)]

    assert asyncio.run(main()) == (Kind.UNHEALTHY, [[[5]], [[6]]])
