"""ASGI middleware for all routes: request ids, size and time limits, API key, access log and metrics.

It uses plain ASGI, because a framework's layers take as long as a small model's prediction.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from bort.serve.errors import Kind, Refused, described
from bort.serve.metrics import Metrics
from bort.serve.settings import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SANE_ID = re.compile(rb"[\w.:-]{1,64}")
_OPEN = ("/", "/health")
"""Paths that a GET may read without a key; the page asks the user for it."""


class Guard:
    """Wraps an application with checks, logging and metrics.

    Args:
        app: The routes.
        limits: Limits of the server; only those on the size and arrival time of a body are used here.
        metrics: Counts the requests.
        api_key: Key that clients must send as `Authorization: Bearer KEY`; None requires none.
        log: Called with one JSON line per request, None to log nothing; by default prints it to standard error.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        api_key: str | None = None,
        log: Callable[[str], None] | None = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._app, self._limits, self._metrics, self._log = app, limits, metrics, log
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self.in_flight = 0
        """Number of requests that are currently being read or answered."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        identity = headers.get(b"x-request-id", b"")
        if not _SANE_ID.fullmatch(identity):
            identity = uuid.uuid4().hex.encode()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity)]
            await send(message)

        self.in_flight += 1
        body: bytes | None = None
        try:
            self._check_key(scope, headers)
            body = await self._body(scope, headers, receive)
            await self._app(scope, Replay(body, receive), answer)
        except Refused as refused:
            self._metrics.errors.labels(refused.kind.title).inc()
            await refuse(answer, refused, scope["path"], unread=body is None)
        except _Gone:
            status = 499  # the client is gone, so no response is sent
        except asyncio.CancelledError:
            # The server ends and waits no longer. uvicorn would answer with 500, and log a traceback.
            if not status:
                await refuse(answer, Refused(Kind.UNHEALTHY, "the server is shutting down"), scope["path"], unread=True)
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            # Unknown paths share one series; otherwise every scan for paths would add new ones.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.count(route, status, seconds)
            if self._log is not None:
                self._log(
                    json.dumps(
                        {
                            "time": round(time.time(), 3),
                            "id": identity.decode(),
                            "client": (scope.get("client") or [None])[0],
                            "method": scope["method"],
                            "path": scope["path"],
                            "status": status,
                            "ms": round(1000 * seconds, 2),
                        }
                    )
                )

    def _check_key(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        if self._key is None or (scope["method"] == "GET" and scope["path"] in _OPEN) or scope["method"] == "OPTIONS":
            return
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._key):
            raise Refused(Kind.UNAUTHORIZED, "needs the key, as Authorization: Bearer KEY")

    async def _body(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read the body; refuse one that is too large or too slow."""
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return b""
        limit = self._limits.payload_limit
        too_large = Refused(Kind.TOO_LARGE, f"the body must have at most {limit:,} bytes")
        told = headers.get(b"content-length", b"")
        if told.isdigit() and int(told.lstrip(b"0")[:20] or b"0") > limit:  # Python reads no number of 5,000 digits
            raise too_large
        pieces: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more:
                    message = await self._receive(receive)
                    pieces.append(message.get("body", b""))
                    size, more = size + len(pieces[-1]), message.get("more_body", False)
                    if size > limit:
                        raise too_large
        except TimeoutError:
            rule = f"the body must arrive within {self._limits.body_seconds:g} seconds"
            raise Refused(Kind.TIMEOUT, rule) from None
        return b"".join(pieces)

    async def _receive(self, receive: Receive) -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        return message


class _Gone(Exception):
    """The client disconnected before its request was complete."""


class Replay:
    """Replays a body that was already read, then passes on the server's messages."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The next message of the connection."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def with_cors(app: App, origins: Sequence[str]) -> App:
    """Let pages of other origins send requests and read all responses, also the errors of a guard.

    Args:
        app: The application, with its guard: preflight requests are answered before it, and are not logged.
        origins: Origins of the pages, maybe with a final slash, which browsers do not send; without any, the
            application is returned as it is.
    """
    if not origins:
        return app
    origins = [origin.removesuffix("/") for origin in origins]
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Retry-After", "X-Request-Id"],
    )


async def refuse(send: Send, refused: Refused, path: str, *, unread: bool) -> None:
    """Send an error response; with `unread`, close the connection instead of reading the rest of the body."""
    told = described(path, refused.kind.status, refused.message, refused.kind.title)
    body = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.kind is Kind.OVERLOADED:
        headers.append((b"retry-after", b"1"))
    if refused.kind is Kind.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
