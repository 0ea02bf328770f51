"""The server process: sockets, signals, and a graceful shutdown."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from socket import socket
from typing import Any

import uvicorn

from bort.errors import BortError, lines_of
from bort.serve.guard import Guard
from bort.serve.registry import Registry

_WATCH_SECONDS = 1.0
_LEAST_SECONDS = 1
"""For what is left to do after the drain, even if it took all its time."""


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[list[socket]]:
    """Give sockets on all addresses of a host, which accept no connection yet, for the duration of a block.

    Raises:
        BortError: The host is none of this machine, or the port is taken or not allowed.
    """

    async def bind() -> list[socket]:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(asyncio.Protocol, host, port, start_serving=False) as server:
            return [one.dup() for one in server.sockets]

    try:
        sockets = asyncio.run(bind())
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or lines_of(error)[0]).rpartition(": ")[2]
        of_port = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        setting, value = ("port", port) if of_port else ("host", host)
        raise BortError(f"cannot be listened on: {reason}", setting=setting, value=value) from None
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(one) for one in sockets]


class Server(uvicorn.Server):
    """A uvicorn server that, on shutdown, accepts no new requests and answers the accepted ones.

    Args:
        config: uvicorn's configuration.
        registry: The served models.
        guard: Counts the requests in flight.
        drain_seconds: Seconds to answer accepted requests on shutdown.
        watch: Reload a model when its folder is replaced.
    """

    def __init__(
        self, config: uvicorn.Config, registry: Registry, guard: Guard, *, drain_seconds: float, watch: bool
    ) -> None:
        super().__init__(config)
        self._registry, self._guard, self._watch = registry, guard, watch
        self._drain_seconds, self._status = drain_seconds, 0

    def run(self, sockets: Any = None) -> None:
        """Serve until SIGTERM, after which the process exits normally, or Ctrl-C."""
        # After shutdown, uvicorn raises the signal again for the previous handler, which ignores it here.
        with contextlib.suppress(ValueError):  # raised outside the main thread
            signal.signal(signal.SIGTERM, lambda *_: None)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Report unhealthy at once; the listening sockets close when the event loop handles the exit."""
        self._registry.draining = True
        self._status = 128 + sig if sig == signal.SIGINT else 0
        super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        """Listen, print the address, and handle SIGHUP by reloading all models."""
        await super().startup(sockets)
        for server in self.servers:
            for one in server.sockets:
                host, port = one.getsockname()[:2]
                host = f"[{host}]" if ":" in host else host  # of IPv6
                _say(f"bort serve: ready on http://{host}:{port}: {', '.join(self._registry.names)}")
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, ValueError, AttributeError):  # not on Windows
            loop.add_signal_handler(signal.SIGHUP, _in_background, lambda: self._reload(only_replaced=False))
        if self._watch:
            _in_background(self._watching)

    async def shutdown(self, sockets: Any = None) -> None:
        """Wait for the accepted requests, at most `drain_seconds`, then close; the unanswered ones get 503.

        A second Ctrl-C ends the wait.
        """
        for server in self.servers:
            server.close()
        end = time.monotonic() + self._drain_seconds
        await self._answered(self._drain_seconds)
        if self.force_exit:
            end = time.monotonic()
        # uvicorn waits for clients that are still reading their responses, then cancels what is unanswered.
        self.config.timeout_graceful_shutdown = max(_LEAST_SECONDS, math.ceil(end - time.monotonic()))
        await super().shutdown(sockets)
        await self._answered(_LEAST_SECONDS)  # the cancelled requests leave the model's queue
        self._registry.close(max(_LEAST_SECONDS, end - time.monotonic()))
        if self._registry.at_work:
            atexit.register(_end_despite, self._registry, self._status)

    async def _answered(self, seconds: float) -> None:
        """Wait until no request is in flight, but no longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._guard.in_flight and not self.force_exit:
                    await asyncio.sleep(0.005)

    def _watching(self) -> None:
        while not self.should_exit:
            time.sleep(_WATCH_SECONDS)
            with contextlib.suppress(OSError):  # the log cannot be written
                self._reload(only_replaced=True)

    def _reload(self, *, only_replaced: bool) -> None:
        for name, error in self._registry.reload(only_replaced=only_replaced):
            _say(f"bort serve: {name}: {'loaded anew' if error is None else f'kept as it was: {error}'}")


def _end_despite(registry: Registry, status: int) -> None:
    """End the process at once if a model is still at work: Python's own end would abort in the middle of its code."""
    if registry.at_work:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        os._exit(status)


def _say(line: str) -> None:
    """Print a line of output for the user."""
    print(line, file=sys.stderr, flush=True)


def _in_background(work: Callable[[], None]) -> None:
    """Run work that the end of the server does not wait for, such as loading a model."""
    threading.Thread(target=work, daemon=True).start()
