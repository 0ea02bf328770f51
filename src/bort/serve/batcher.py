"""A bounded queue in front of a model: requests enter one by one and leave in batches.

A lone request is computed at once. While the model is busy, callers tokenise further requests, which wait and form the
next batch. So batches grow with the load, and no request waits for others to arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bort.errors import lines_of
from bort.serve.errors import Kind, Refused

Rows = NDArray[np.float32]


class Computed(Protocol):
    """Tokenised texts, which can be joined."""

    def __len__(self) -> int:
        """Number of texts."""

    @property
    def tokens(self) -> int:
        """Number of tokens of all texts."""


@dataclass(eq=False)
class _Waiting:
    """A request in the queue."""

    tokens: Any
    future: asyncio.Future[Rows]
    loop: asyncio.AbstractEventLoop
    since: float


class Batcher:
    """Runs a model in a separate thread on batches of waiting requests.

    Args:
        run: Computes tokenised texts. *Shape:* -> (texts, outputs).
        join: Concatenates the tokenised texts of several requests.
        max_batch_tokens: Maximum number of tokens per batch; a larger request is a batch of its own.
        max_waiting: Maximum number of accepted requests without an answer yet; further ones are refused.
        max_wait_seconds: Requests that were accepted longer ago are refused instead of computed.
        observe: Called for each batch, with its numbers of texts and tokens and its seconds.

    Example:
        >>> import numpy as np
        >>> class Words(list):
        ...     tokens = property(len)
        >>> async def main():
        ...     batcher = Batcher(lambda words: np.ones((len(words), 2), np.float32), lambda parts: sum(parts, Words()))
        ...     with batcher.admitted() as since:
        ...         rows = await batcher.submit(Words(["a", "b"]), since)
        ...     batcher.close()
        ...     return rows.shape
        >>> asyncio.run(main())
        (2, 2)
    """

    def __init__(
        self,
        run: Callable[[Any], Rows],
        join: Callable[[Sequence[Any]], Any],
        *,
        max_batch_tokens: int = 16384,
        max_waiting: int = 512,
        max_wait_seconds: float = 30.0,
        observe: Callable[[int, int, float], None] = lambda texts, tokens, seconds: None,
    ) -> None:
        self._run, self._join, self._observe = run, join, observe
        self._max_tokens, self._max_waiting, self._max_wait = max_batch_tokens, max_waiting, max_wait_seconds
        self._queue: deque[_Waiting] = deque()
        self._changed = Condition()
        self._closing = False
        self.depth = 0
        """Number of accepted requests without an answer yet: tokenised, waiting or computed."""
        self._thread = Thread(target=self._work, name="bort-batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs: until it is closed, and has answered what it had accepted."""
        return self._thread.is_alive()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[float]:
        """Accept a request for the duration of a block, in which its texts are tokenised and computed.

        Yields:
            When it was accepted.

        Raises:
            Refused: There are too many, or the batcher is closing.
        """
        with self._changed:
            self._check_open()
            if self.depth >= self._max_waiting:
                raise Refused(Kind.OVERLOADED, "the model is overloaded; try again later")
            self.depth += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self.depth -= 1

    async def submit(self, tokens: Computed, since: float) -> Rows:
        """Compute tokenised texts; cancelling the caller removes its request from the queue.

        Args:
            tokens: The texts of a request.
            since: When it was accepted.

        Returns:
            *Shape:* (texts, outputs).

        Raises:
            Refused: The batcher is closing, the request waited for too long, or the model failed.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tokens, loop.create_future(), loop, since)
        with self._changed:
            self._check_open()  # it may have been closed meanwhile, and its thread have ended
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            with self._changed, contextlib.suppress(ValueError):  # raised if it is being computed
                self._queue.remove(waiting)
            raise

    def close(self, seconds: float = 30.0) -> None:
        """Accept no more requests, and wait up to `seconds` for the accepted ones to be answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _check_open(self) -> None:
        if self._closing:
            raise Refused(Kind.UNHEALTHY, "the server is shutting down")

    def _work(self) -> None:
        while batch := self._next():
            self._compute(batch)

    def _next(self) -> list[_Waiting]:
        """Wait for the next batch; empty if the batcher is closed."""
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return []
                batch, tokens = [self._queue.popleft()], 0
                tokens = batch[0].tokens.tokens
                while self._queue and tokens + self._queue[0].tokens.tokens <= self._max_tokens:
                    batch.append(self._queue.popleft())
                    tokens += batch[-1].tokens.tokens
            # The future of a disconnected client is cancelled.
            left = [one for one in batch if not one.future.cancelled()]
            late = [one for one in left if time.monotonic() - one.since > self._max_wait]
            for one in late:
                _settle([(one, Refused(Kind.OVERLOADED, f"waited for more than {self._max_wait:g} seconds"))])
            if taken := [one for one in left if one not in late]:
                return taken

    def _compute(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            joined = batch[0].tokens if len(batch) == 1 else self._join([one.tokens for one in batch])
            rows = self._run(joined)
        except Exception as error:
            if len(batch) > 1:  # one bad request must not fail the others
                for one in batch:
                    self._compute([one])
                return
            refusal = error if isinstance(error, Refused) else Refused(Kind.BACKEND, lines_of(error)[0][:300])
            _settle([(batch[0], refusal)])
            return
        self._observe(len(joined), joined.tokens, time.perf_counter() - start)
        results: list[tuple[_Waiting, Rows | Refused]] = []
        place = 0
        for one in batch:
            results.append((one, rows[place : place + len(one.tokens)]))
            place += len(one.tokens)
        _settle(results)


def _settle(results: Sequence[tuple[_Waiting, Rows | Refused]]) -> None:
    """Pass results to their event loops, with one wake-up per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Rows | Refused]]] = {}
    for one, result in results:
        by_loop.setdefault(one.loop, []).append((one, result))
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, theirs)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            continue


def _set(results: Sequence[tuple[_Waiting, Rows | Refused]]) -> None:
    for one, result in results:
        if one.future.done():
            continue
        if isinstance(result, Refused):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
