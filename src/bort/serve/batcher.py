"""One bounded queue before a model: requests go in one by one, and out in batches.

A lone request goes at once. While the model computes, further requests are tokenised by their callers and wait; what
waits is one batch when the model is free again. So batches grow with the load, and no request waits for company.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bort.errors import lines_of
from bort.serve.errors import Kind, Refused

Rows = NDArray[np.float32]


class Computed(Protocol):
    """Tokenised texts, several of which can be joined."""

    def __len__(self) -> int:
        """How many texts."""

    @property
    def tokens(self) -> int:
        """Of all texts together."""


@dataclass(eq=False)
class _Waiting:
    """A request in the queue."""

    tokens: Any
    future: asyncio.Future[Rows]
    loop: asyncio.AbstractEventLoop
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Runs a model in a thread of its own on batches of what waits.

    Args:
        run: Computes tokenised texts. *Shape:* -> (texts, outputs).
        join: Puts tokenised texts of several requests one after another.
        max_batch_tokens: Tokens of one batch; a larger request makes a batch by itself.
        max_waiting: Requests accepted and not yet answered; one more is refused.
        max_wait_seconds: What has waited longer is refused instead of computed.
        observe: Told of every batch: its texts, its tokens and its seconds.

    Example:
        >>> import numpy as np
        >>> class Words(list):
        ...     tokens = property(len)
        >>> async def main():
        ...     batcher = Batcher(lambda words: np.ones((len(words), 2), np.float32), lambda parts: sum(parts, Words()))
        ...     rows = await batcher.submit(Words(["a", "b"]))
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
        self._computing = 0
        self._thread = Thread(target=self._work, name="bort-batcher", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait or are being computed."""
        return len(self._queue) + self._computing

    def admit(self) -> None:
        """Refuse at once, before anything is tokenised, what could not be taken.

        Raises:
            Refused: The queue is full, or the batcher is closing.
        """
        if self._closing:
            raise Refused(Kind.UNHEALTHY, "the server is shutting down")
        if self.depth >= self._max_waiting:
            raise Refused(Kind.OVERLOADED, "the model is overloaded; try again later")

    async def submit(self, tokens: Computed) -> Rows:
        """Compute tokenised texts; a caller that is cancelled takes its request out of the queue.

        Returns:
            *Shape:* (texts, outputs).

        Raises:
            Refused: The queue is full, the request waited for too long, or the model failed.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tokens, loop.create_future(), loop)
        with self._changed:
            self.admit()
            self._queue.append(waiting)
            self._changed.notify()
        return await waiting.future

    def close(self, seconds: float = 30.0) -> None:
        """Take nothing more, answer what was taken, and end; waits for it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            self._computing = len(batch)
            try:
                self._compute(batch)
            finally:
                self._computing = 0

    def _next(self) -> list[_Waiting]:
        """The next batch; empty at the end. Waits until there is one."""
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
                self._computing = len(batch)
            # A client that has left has cancelled its future.
            left = [one for one in batch if not one.future.cancelled()]
            late = [one for one in left if time.monotonic() - one.since > self._max_wait]
            for one in late:
                _settle([(one, Refused(Kind.OVERLOADED, f"waited for more than {self._max_wait:g} seconds"))])
            if taken := [one for one in left if one not in late]:
                return taken
            self._computing = 0

    def _compute(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            joined = batch[0].tokens if len(batch) == 1 else self._join([one.tokens for one in batch])
            rows = self._run(joined)
        except Exception as error:
            if len(batch) > 1:  # the fault of one request is not the others'
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
    """Hand results over to their event loops, with one wake-up each."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Rows | Refused]]] = {}
    for one, result in results:
        by_loop.setdefault(one.loop, []).append((one, result))
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, theirs)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            continue


def _set(results: Sequence[tuple[_Waiting, Rows | Refused]]) -> None:
    for one, result in results:
        if one.future.done():
            continue
        if isinstance(result, Refused):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
