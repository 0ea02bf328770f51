"""The server process: sockets, signals, and a graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from bort.serve.guard import Guard
from bort.serve.registry import Registry

_WATCH_SECONDS = 1.0
_LEAST_SECONDS = 1
"""For what is left to do after the drain, even if it took all its time."""


class Server(uvicorn.Server):
    """A uvicorn server that, on shutdown, accepts no new requests and answers the accepted ones.

    Args:
        config: uvicorn's configuration.
        registry: The served models.
        guard: Counts the requests in flight.
        drain_seconds: Seconds to answer accepted requests on shutdown.
        watch: Reload a model when its folder is replaced.
        say: Called with each line of output for the user.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        registry: Registry,
        guard: Guard,
        *,
        drain_seconds: float,
        watch: bool,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        super().__init__(config)
        self._registry, self._guard, self._watch, self._say = registry, guard, watch, say
        self._drain_seconds = drain_seconds
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, sockets: Any = None) -> None:
        """Serve until SIGTERM, after which the process exits normally, or Ctrl-C."""
        # After shutdown, uvicorn raises the signal again for the previous handler, which ignores it here.
        with contextlib.suppress(ValueError):  # raised outside the main thread
            signal.signal(signal.SIGTERM, lambda *_: None)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Report unhealthy at once; the listening sockets close when the event loop handles the exit."""
        self._registry.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        """Listen, print the address, and handle SIGHUP by reloading all models."""
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                self._say(f"bort serve: ready on http://{host}:{port}: {', '.join(self._registry.names)}")
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, ValueError, AttributeError):  # not on Windows
            loop.add_signal_handler(signal.SIGHUP, lambda: self._start(self._reload(only_replaced=False)))
        if self._watch:
            self._start(self._watching())

    async def shutdown(self, sockets: Any = None) -> None:
        """Wait for the accepted requests, at most `drain_seconds`, then close; the unanswered ones get 503."""
        for server in self.servers:
            server.close()
        end = time.monotonic() + self._drain_seconds
        await self._answered(self._drain_seconds)
        for task in self._tasks:
            task.cancel()
        # uvicorn waits for clients that are still reading their responses, then cancels what is unanswered.
        self.config.timeout_graceful_shutdown = max(_LEAST_SECONDS, math.ceil(end - time.monotonic()))
        await super().shutdown(sockets)
        await self._answered(_LEAST_SECONDS)  # the cancelled requests leave the model's queue
        self._registry.close()

    async def _answered(self, seconds: float) -> None:
        """Wait until no request is in flight, but no longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._guard.in_flight:
                    await asyncio.sleep(0.005)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watching(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            await self._reload(only_replaced=True)

    async def _reload(self, *, only_replaced: bool) -> None:
        for name, error in await asyncio.to_thread(self._registry.reload, only_replaced=only_replaced):
            self._say(f"bort serve: {name}: {'loaded anew' if error is None else f'kept as it was: {error}'}")
