"""Past the framework a request is answered as by the framework."""

from __future__ import annotations

import asyncio
import json
from unittest.mock import patch

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bort.serve import short_cut
from bort.serve.app import build
from bort.serve.guard import Guard, with_cors
from bort.serve.metrics import Metrics
from bort.serve.model import ServedModel
from bort.serve.registry import Registry
from bort.serve.settings import Limits
from bort.serve.short_cut import ShortCut

_TEXTS = st.text(max_size=6) | st.sampled_from(["a harbour", "harbour " * 90, "\0", "\ud800", 1, None])
_INPUTS = _TEXTS | st.lists(_TEXTS, max_size=3) | st.lists(st.lists(_TEXTS, max_size=3), max_size=3)
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": _INPUTS,
        "truncate": st.sampled_from([True, False, None, "yes", 2]),
        "raw_scores": st.sampled_from([True, False, None, "true"]),
        "other": st.none(),
    },
)


@pytest.fixture(scope="module", params=[(), ("https://elsewhere.example",)], ids=["alone", "with others"])
def ways(exported, request):
    """The application alone, behind the short cut, and its metrics."""
    limits, metrics = Limits(), Metrics()
    registry = Registry({"m": exported}, lambda name, folder: ServedModel(name, folder, limits))
    routes = build(registry, metrics, "0")
    guards = [Guard(app, limits, metrics, log=None) for app in (routes, ShortCut(routes, registry))]
    yield [with_cors(guard, request.param) for guard in guards], metrics
    registry.close()


def asked(app, content: bytes, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            given_headers = {"content-type": "application/json", "x-request-id": "1"} | headers
            return await client.post("/predict", content=content, headers=given_headers)

    return asyncio.run(ask())


def same(ways, content: bytes, **headers: str) -> httpx.Response:
    whole, short = (asked(app, content, **headers) for app in ways[0])
    assert (short.status_code, short.content) == (whole.status_code, whole.content)
    ours, theirs = dict(short.headers), dict(whole.headers)
    assert ours | {"vary": None} == theirs | {"vary": None}, "an answer to POST is kept by nobody, whoever asked"
    return short


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(_BODIES)
@example({"inputs": [["a"], ["a", "b"]]})
@example({"inputs": ["a"] * 3})
@example({"inputs": [["a"]] * 33})
def test_answers_and_mistakes_are_the_same(ways, body):
    same(ways, json.dumps(body).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"inputs": "a", "inputs": "b"}', b'{"inputs": NaN}', b"[]"])
def test_so_is_what_is_no_request(content, ways):
    same(ways, content)


def test_what_the_body_must_not_hold_is_told(ways):
    digits = b'{"inputs": ' + b"9" * 5000 + b"}"
    assert "no whole number of more than 4,300 digits" in same(ways, digits).json()["error"]
    assert "too many lists" in same(ways, b'{"inputs": ' + b"[" * 10**5).json()["error"]


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_a_client_that_leaves_makes_no_mistake(ways, path):
    apps, metrics = ways
    sent, messages = [], [{"type": "http.request", "body": b'{"inputs": "a harbour"}'}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    before = metrics.errors.labels("Validation")._value.get()
    asyncio.run(apps[0](scope, receive, send))
    assert sent[0]["status"] == 499
    assert metrics.errors.labels("Validation")._value.get() == before


def test_other_pages_and_forms_go_the_whole_way(ways):
    good = b'{"inputs": "a harbour"}'
    same(ways, good, origin="https://elsewhere.example")
    said = same(ways, good, **{"content-type": "text/plain"}).json()["error"]
    assert said == "the header Content-Type must be application/json"
    same(ways, good, **{"content-type": "application/json; charset=utf-8"})


def test_most_requests_are_cut_short(ways):
    (_, short), metrics = ways
    with patch.object(short_cut, "Replay", side_effect=AssertionError("went the whole way")):
        for headers in ({}, {"origin": "https://elsewhere.example"}):
            assert asked(short, b'{"inputs": "a harbour"}', **headers).status_code == 200
    assert b'bort_requests_total{route="/predict",status="200"}' in metrics.exposed()
