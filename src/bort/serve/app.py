"""The routes, compatible with text-embeddings-inference, the Hugging Face inference API and OpenAI's embeddings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from numpy.typing import NDArray
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from bort.data.tables.examples import Example
from bort.serve.asking import Outputs, check_count, outputs_of, predicted, unless_gone
from bort.serve.bodies import (
    ErrorBody,
    ExplainRequest,
    Explanation,
    Info,
    Parameters,
    PipelineRequest,
    PredictRequest,
    ScoredLabel,
)
from bort.serve.embedding_routes import embedding_routes
from bort.serve.errors import Kind, Refused, described
from bort.serve.explain import explain
from bort.serve.metrics import Metrics
from bort.serve.model import ServedModel
from bort.serve.registry import Registry
from bort.tasks.activations import sigmoid, softmax

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": what}
    for status, what in (
        (401, "The key is missing or wrong"),
        (404, "There is no such model"),
        (408, "The body did not arrive in time"),
        (413, "The body, the batch or a text is too large"),
        (422, "The request cannot be read"),
        (424, "The model failed"),
        (429, "The model is overloaded"),
        (503, "The server is not ready"),
    )
}
_FORMS = ("text", "one", "batch", "constrained-str", "str", "function-after[_readable(), str]")
"""Names of union members that pydantic adds to the location of an error."""
_BATCH = TypeAdapter(list[list[ScoredLabel]])
_LIST = TypeAdapter(list[ScoredLabel])
PredictResponse = list[ScoredLabel] | list[list[ScoredLabel]]


def build(registry: Registry, metrics: Metrics, version: str) -> FastAPI:
    """Create the application.

    Args:
        registry: The served models.
        metrics: Metrics of the server.
        version: Version of the package.
    """
    app = FastAPIOffline(
        title="bort",
        version=version,
        summary="A small, fast text classifier",
        responses=_ERRORS,
    )
    _handle_errors(app, metrics)
    page = files("bort.serve").joinpath("page.html").read_text("utf-8")

    async def predict_with(name: str | None, body: PredictRequest, request: Request) -> Response:
        return Response(await predicted(registry, name, body, request.receive), media_type="application/json")

    @app.post("/predict", response_model=PredictResponse, tags=["text-embeddings-inference"])
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Probabilities of all labels, the most likely first."""
        return await predict_with(None, body, request)

    @app.post("/models/{name}/predict", response_model=PredictResponse, tags=["models"])
    async def predict_named(name: str, body: PredictRequest, request: Request) -> Response:
        """The same for one of several models, by name."""
        return await predict_with(name, body, request)

    @app.post("/", response_model=PredictResponse, tags=["Hugging Face inference API"])
    async def pipeline(body: PipelineRequest, request: Request) -> Response:
        """Labels in the format of `transformers.pipeline`; a flat list is a batch."""
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        examples = [Example(text) for text in texts]
        check_count(examples, registry.get())
        found = await unless_gone(request.receive, outputs_of(registry, None, examples))
        answers = [ranked[: body.parameters.top_k] for ranked in _applied(found, body.parameters)]
        content = _LIST.dump_json(answers[0]) if isinstance(body.inputs, str) else _BATCH.dump_json(answers)
        return Response(content, media_type="application/json")

    async def explain_with(name: str | None, body: ExplainRequest, request: Request) -> Explanation:
        _labels(registry.get(name), body.label)  # refuses before anything is computed

        async def answers_to(examples: Sequence[Example]) -> tuple[Sequence[str], NDArray[np.float32]]:
            found = await outputs_of(registry, name, examples, True)  # maybe by a model that has replaced that one
            return _labels(found.model, body.label), found.model.task.activate(found.values)

        return await unless_gone(request.receive, explain(body.example(), body.label, answers_to))

    @app.post("/explain", tags=["bort"])
    async def explain_default(body: ExplainRequest, request: Request) -> Explanation:
        """How much each word contributes to the label: its probability with the word minus that without it."""
        return await explain_with(None, body, request)

    @app.post("/models/{name}/explain", tags=["models"])
    async def explain_named(name: str, body: ExplainRequest, request: Request) -> Explanation:
        """The same for one of several models, by name."""
        return await explain_with(name, body, request)

    app.include_router(embedding_routes(registry))

    @app.get("/health", response_class=Response, tags=["text-embeddings-inference"])
    async def health() -> Response:
        """200 when every model has answered once, 503 when the server is shutting down."""
        if not registry.healthy:
            raise Refused(Kind.UNHEALTHY, "unhealthy")
        return Response()

    @app.get("/info", tags=["text-embeddings-inference"])
    async def info() -> Info:
        """Description of the served model, and the server's limits."""
        return registry.get().info(version)

    @app.get("/models", tags=["models"])
    async def models() -> list[Info]:
        """All served models, the default first."""
        return [registry.get(name).info(version) for name in registry.names]

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"])
    async def exposed() -> Response:
        """Metrics for Prometheus."""
        for name in registry.names:
            metrics.depth.labels(name).set(registry.get(name).batcher.depth)
        return Response(metrics.exposed(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, tags=["bort"])
    async def try_it() -> Response:
        """A page to try the model."""
        return HTMLResponse(page)

    return app


def _labels(model: ServedModel, asked: str | None) -> Sequence[str]:
    """The labels of a model.

    Raises:
        Refused: The model is no classifier, or a label that a request names is none of them.
    """
    if model.kind not in ("classification", "multilabel"):
        raise Refused(Kind.VALIDATION, "only a classifier's answers can be explained")
    if asked is not None and asked not in model.task.names:
        raise Refused(Kind.VALIDATION, f"label: is none of the model's: {', '.join(model.task.names)}")
    return model.task.names


def _applied(found: Outputs, parameters: Parameters) -> list[list[ScoredLabel]]:
    """Labels with the scores of `transformers.pipeline`."""
    model, logits, apply = found.model, found.values, parameters.function_to_apply
    task = model.task
    if task.kind == "regression" or (task.kind == "classification" and apply in (None, "softmax")):
        return model.predictions(logits)
    functions: dict[str | None, Any] = {
        None: task.activate,
        "softmax": softmax,
        "sigmoid": sigmoid,
        "none": np.asarray,
    }
    scores = functions[apply](logits.astype(np.float64))
    return [model.ranked(row) for row in scores]


def _handle_errors(app: FastAPI, metrics: Metrics) -> None:
    def body(
        request: Request, status: int, message: str, title: str, headers: dict[str, str] | None = None
    ) -> Response:
        metrics.errors.labels(title).inc()
        return JSONResponse(described(request.url.path, status, message, title), status, headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        headers = {"Retry-After": "1"} if error.kind is Kind.OVERLOADED else None
        return body(request, error.kind.status, error.message, error.kind.title, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return body(request, 422, _worded(error), Kind.VALIDATION.title)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        if error.status_code == 499:  # the client has left; that is no mistake of its request
            return Response(status_code=499)
        if error.status_code == 400:  # FastAPI's status for a body that it cannot decode
            return body(request, 422, _unreadable(error.__cause__), Kind.VALIDATION.title)
        title = {404: Kind.NOT_FOUND.title}.get(error.status_code, Kind.VALIDATION.title)
        return body(request, error.status_code, str(error.detail), title, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return body(request, 500, "internal error", Kind.BACKEND.title)


def _unreadable(cause: BaseException | None) -> str:
    """Why Python's reader of JSON fails at a body that has no mistake at a certain character."""
    if isinstance(cause, RecursionError):
        return "the body holds too many lists or objects in each other"
    if isinstance(cause, ValueError) and not isinstance(cause, UnicodeError):
        return f"the body must hold no whole number of more than {sys.get_int_max_str_digits():,} digits"
    return "the body must be JSON in UTF-8"


def _worded(error: RequestValidationError) -> str:
    """The first error in one line, with its location."""
    mistake = error.errors()[0]
    if isinstance(error.body, bytes) and mistake["loc"] == ("body",):
        return "the header Content-Type must be application/json"
    if mistake["type"] == "json_invalid":
        reason = mistake.get("ctx", {}).get("error", "it cannot be read")
        return f"the body must be JSON: {reason} at character {mistake['loc'][-1] + 1}"
    place = ""
    for step in mistake["loc"][1:]:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step not in _FORMS:
            place += f".{step}" if place else step
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{place or 'the body'}: {message}"
