"""The guard, without a model behind it."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi", reason="needs bort[serve]")
import httpx

from bort.serve.guard import Guard, with_cors
from bort.serve.metrics import Metrics
from bort.serve.settings import Limits

PAGE = "https://its.example"


def asked(app, method: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return await client.request(method, "/predict", content=b"0123456789", headers=headers)

    return asyncio.run(ask())


async def routes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_page_of_another_origin_can_read_the_guards_errors():
    guard = Guard(routes, Limits(payload_limit=9), Metrics(), "key", log=None)
    app = with_cors(guard, [f"{PAGE}/"])
    for status, key in ((401, {}), (413, {"authorization": "Bearer key"})):
        for origin, allowed in ((PAGE, PAGE), ("https://other.example", None)):
            answer = asked(app, "POST", origin=origin, **key)
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (status, allowed)
            assert answer.headers["access-control-expose-headers"] == "Retry-After, X-Request-Id"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert asked(app, "OPTIONS", origin=PAGE, **asks).status_code == 200
    assert asked(app, "OPTIONS", origin="https://other.example", **asks).status_code == 400


@pytest.mark.parametrize(
    ("told", "status"), [(b"0" * 5000 + b"9", 200), (b"0" * 5000 + b"10", 413), (b"9" * 5000, 413)]
)
def test_a_length_may_have_any_number_of_digits(told, status):
    guard, sent = Guard(routes, Limits(payload_limit=9), Metrics(), log=None), []

    async def receive():
        return {"type": "http.request", "body": b"012345678"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"content-length", told)]}
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == status


def test_without_origins_nothing_stands_before_the_guard():
    assert with_cors(routes, []) is routes
