"""The routes of encoders: text-embeddings-inference's `/embed`, and OpenAI's `/v1/embeddings`."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.predict.encoder import of_length_1
from bort.serve.asking import check_count, check_side, outputs_of, unless_gone
from bort.serve.bodies import EmbeddingsRequest, EmbeddingsResponse, EmbedRequest
from bort.serve.errors import Kind, Refused
from bort.serve.model import ServedModel
from bort.serve.registry import Registry

EmbedResponse = list[list[float]]


def embedding_routes(registry: Registry) -> APIRouter:
    """Create the routes.

    Args:
        registry: The served models.
    """
    routes = APIRouter()

    async def embed_with(name: str | None, body: EmbedRequest, request: Request) -> Response:
        examples, model = _examples(body.inputs), registry.get(name)
        check_count(examples, model)
        check_side(body.truncation_direction, model)
        _check_size(body.dimensions, model)
        if body.prompt_name is not None:
            raise Refused(Kind.VALIDATION, "prompt_name: must not be given; the model's own prompt, if any, is used")
        asked = outputs_of(registry, name, examples, body.truncate, vectors=True)
        vectors = (await unless_gone(request.receive, asked)).values
        return _json((of_length_1(vectors) if body.normalize else vectors).tolist())

    @routes.post("/embed", response_model=EmbedResponse, tags=["text-embeddings-inference"])
    async def embed(body: EmbedRequest, request: Request) -> Response:
        """One vector per text."""
        return await embed_with(None, body, request)

    @routes.post("/models/{name}/embed", response_model=EmbedResponse, tags=["models"])
    async def embed_named(name: str, body: EmbedRequest, request: Request) -> Response:
        """The same for one of several models, by name."""
        return await embed_with(name, body, request)

    @routes.post("/v1/embeddings", response_model=EmbeddingsResponse, tags=["OpenAI"])
    async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        """One vector of length 1 per text, like OpenAI's API; `model` may name one of several models."""
        name = registry.named(body.model)
        examples, model = _examples(body.input), registry.get(name)
        check_count(examples, model)
        _check_size(body.dimensions, model)
        found = await unless_gone(request.receive, outputs_of(registry, name, examples, vectors=True))
        vectors = of_length_1(found.values)
        data = [
            {"object": "embedding", "index": place, "embedding": _encoded(vector, body.encoding_format)}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return _json({"object": "list", "data": data, "model": found.model.name, "usage": usage})

    return routes


def _check_size(asked: int | None, model: ServedModel) -> None:
    if model.encodes and asked not in (None, model.size):
        rule = f"dimensions: the vectors of this model have {model.size} numbers, and are not made to be cut"
        raise Refused(Kind.VALIDATION, rule)


def _examples(texts: str | list[str]) -> list[Example]:
    return [Example(text) for text in ([texts] if isinstance(texts, str) else texts)]


def _encoded(vector: NDArray[np.float32], form: str) -> list[float] | str:
    """Numbers, or their bytes as little-endian float32 in base64."""
    if form == "float":
        numbers: list[float] = vector.tolist()
        return numbers
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _json(content: Any) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), media_type="application/json")
