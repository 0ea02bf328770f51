"""From a request's texts to a model's outputs, for all routes: limits, tokenisation, queue, disconnected clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from bort.data.tables.examples import Example
from bort.serve.bodies import PredictRequest, ScoredLabel
from bort.serve.errors import Kind, Refused
from bort.serve.guard import Message, Receive
from bort.serve.model import ServedModel
from bort.serve.registry import Registry

Answered = TypeVar("Answered")
_BATCH = TypeAdapter(list[list[ScoredLabel]])
_LIST = TypeAdapter(list[ScoredLabel])

_INLINE_CHARACTERS = 4000
"""Texts up to this length are tokenised in the event loop, because handing them to a thread takes longer."""


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for some texts.

    Args:
        model: The model that computed them.
        values: Raw outputs, or vectors that are not scaled. *Shape:* (texts, outputs).
        tokens: Number of tokens of all texts.
    """

    model: ServedModel
    values: NDArray[np.float32]
    tokens: int


async def outputs_of(
    registry: Registry,
    name: str | None,
    examples: Sequence[Example],
    truncate: bool | None = None,
    *,
    vectors: bool = False,
) -> Outputs:
    """Compute a model's outputs.

    Args:
        registry: The served models.
        name: Name of the model; None for the first one.
        examples: Texts or pairs.
        truncate: Truncate texts that are too long; None uses the server's setting.
        vectors: Whether vectors are requested, not labels.

    Raises:
        Refused: The model does not exist, is of the other kind, is overloaded or fails; the server is shutting down; or
            a text is too long.
    """
    while True:
        model = registry.get(name)
        if model.encodes != vectors:
            wanted = "an embedding model: ask /predict" if vectors else "a classifier model: ask /embed"
            raise Refused(Kind.BACKEND, f"Model is not {wanted}")
        if not registry.healthy:
            raise Refused(Kind.UNHEALTHY, "the server is shutting down")
        try:
            with model.batcher.admitted() as since:
                if sum(len(one.text) + len(one.text_b or "") for one in examples) <= _INLINE_CHARACTERS:
                    tokens = model.encode(examples, truncate)
                else:
                    tokens = await asyncio.to_thread(model.encode, examples, truncate)
                return Outputs(model, await model.outputs(tokens, since), tokens.tokens)
        except Refused as refused:
            # Retry if another model has replaced this one in the meantime.
            if refused.kind is not Kind.UNHEALTHY or registry.get(name) is model:
                raise


def check_count(examples: Sequence[Example], model: ServedModel) -> None:
    """Refuse a request with too many texts.

    Raises:
        Refused: There are more than the server accepts in one request.
    """
    most = model.limits.max_client_batch_size
    if len(examples) > most:
        raise Refused(Kind.TOO_LARGE, f"batch size {len(examples)} > maximum allowed batch size {most}")


def check_side(asked: str | None, model: ServedModel) -> None:
    """Refuse a request that asks to cut off the other side of texts than the model does.

    Raises:
        Refused: It does.
    """
    if asked is not None and asked.lower() != model.truncation_side:
        rule = f"truncation_direction: this model cuts the {model.truncation_side} side of a text"
        raise Refused(Kind.VALIDATION, rule)


async def unless_gone(receive: Receive, answer: Awaitable[Answered]) -> Answered:
    """Wait for an answer, and cancel it if the client disconnects: a request in the queue is then not computed.

    Args:
        receive: The request's `receive`, after its body has been read.
        answer: The answer to wait for.

    Raises:
        HTTPException: The client has disconnected.
    """
    waiting, gone = asyncio.current_task(), False

    def leave(leaving: asyncio.Task[Message]) -> None:
        nonlocal gone
        if waiting is not None and not leaving.cancelled():
            gone = True
            waiting.cancel()

    async def left() -> Message:
        return await receive()

    leaving = asyncio.create_task(left())
    leaving.add_done_callback(leave)
    try:
        return await answer
    except asyncio.CancelledError:
        if gone and waiting is not None and not waiting.uncancel():
            raise HTTPException(499, "the client has left") from None
        raise
    finally:
        leaving.remove_done_callback(leave)
        leaving.cancel()


async def predicted(registry: Registry, name: str | None, body: PredictRequest, receive: Receive) -> bytes:
    """Answer a request to `/predict`, as JSON.

    Args:
        registry: The served models.
        name: Name of the model; None for the first one.
        body: The request's body.
        receive: The request's `receive`.

    Raises:
        Refused: See `outputs_of`; or the request has too many texts, or asks to cut them on the other side.
        HTTPException: The client has disconnected.
    """
    examples, model = body.examples(), registry.get(name)
    check_count(examples, model)
    check_side(body.truncation_direction, model)
    found = await unless_gone(receive, outputs_of(registry, name, examples, body.truncate))
    answers = found.model.predictions(found.values, body.raw_scores)
    return _BATCH.dump_json(answers) if body.batched else _LIST.dump_json(answers[0])
