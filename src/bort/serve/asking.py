"""From a request's texts to a model's outputs, whatever the route: limits, tokens, queue, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from bort.data.tables.examples import Example
from bort.serve.errors import Kind, Refused
from bort.serve.model import ServedModel
from bort.serve.registry import Registry

Answered = TypeVar("Answered")

_INLINE_CHARACTERS = 4000
"""Texts up to this length are tokenised on the spot: handing them to a thread takes longer."""


@dataclass(frozen=True)
class Outputs:
    """What a model says of some texts.

    Args:
        model: The one that was asked.
        values: Raw outputs, or vectors that are not scaled. *Shape:* (texts, outputs).
        tokens: Of all texts together.
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
    """Ask a model.

    Args:
        registry: The served models.
        name: Of the model; None for the first one.
        examples: Texts or pairs.
        truncate: Cut texts that are too long; None as the server was told.
        vectors: Whether vectors are wanted, and not answers.

    Raises:
        Refused: The model is not there, not of this kind, overloaded, or fails; or a text is too long.
    """
    while True:
        model = registry.get(name)
        if model.encodes != vectors:
            wanted = "an embedding model: ask /predict" if vectors else "a classifier model: ask /embed"
            raise Refused(Kind.BACKEND, f"Model is not {wanted}")
        if not registry.healthy:
            raise Refused(Kind.UNHEALTHY, "the server is shutting down")
        try:
            model.batcher.admit()
            if sum(len(one.text) + len(one.text_b or "") for one in examples) <= _INLINE_CHARACTERS:
                tokens = model.encode(examples, truncate)
            else:
                tokens = await asyncio.to_thread(model.encode, examples, truncate)
            return Outputs(model, await model.outputs(tokens), tokens.tokens)
        except Refused as refused:
            # Another model has taken this one's place meanwhile.
            if refused.kind is not Kind.UNHEALTHY or registry.get(name) is model:
                raise


def check_count(examples: Sequence[Example], model: ServedModel) -> None:
    """Refuse a request of too many texts.

    Raises:
        Refused: There are more than the server takes at once.
    """
    most = model.limits.max_client_batch_size
    if len(examples) > most:
        raise Refused(Kind.TOO_LARGE, f"batch size {len(examples)} > maximum allowed batch size {most}")


async def unless_gone(request: Request, answer: Awaitable[Answered]) -> Answered:
    """Wait for an answer, and drop it when the client leaves: what waits in the queue is then not computed."""
    task = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise HTTPException(499, "the client has left")
        return task.result()
    finally:
        leaving.cancel()
        task.cancel()
