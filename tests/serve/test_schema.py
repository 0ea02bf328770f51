"""Whatever a client sends that the schema allows, or nearly allows, the server does not break."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from bort.serve.app import build
from bort.serve.guard import Guard
from bort.serve.metrics import Metrics
from bort.serve.model import ServedModel
from bort.serve.registry import Registry
from bort.serve.settings import Limits


@pytest.fixture(scope="module", params=["exported", "exported_encoder"])
def schema(request):
    limits, metrics = Limits(), Metrics()
    folder = request.getfixturevalue(request.param)
    registry = Registry({"m": folder}, lambda name, folder: ServedModel(name, folder, limits))
    routes = build(registry, metrics, "0")
    yield schemathesis.openapi.from_asgi("/openapi.json", Guard(routes, limits, metrics, log=None))
    registry.close()


def test_no_request_breaks_the_server(schema):
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(operation.as_strategy())
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case):
            response = case.call()
            assert response.status_code < 500
            if response.status_code >= 400:
                if case.path.startswith("/v1/"):
                    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
                else:
                    assert set(response.json()) == {"error", "error_type"}

        check()


def test_its_pages_hold_all_routes(schema):
    paths = {found.ok().path for found in schema.get_all_operations()}
    assert {"/embed", "/v1/embeddings", "/models/{name}/embed"} <= paths
    assert {"/", "/predict", "/explain", "/health", "/info", "/metrics", "/models/{name}/predict"} <= paths
