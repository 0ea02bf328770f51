"""The limits of a server, named as in text-embeddings-inference where it has the same limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on requests and batches.

    Args:
        max_concurrent_requests: Maximum number of accepted requests without an answer yet; further ones get 429.
        max_client_batch_size: Maximum number of texts or pairs in a request.
        max_batch_tokens: Maximum number of tokens per batch of the model, not counting padding.
        payload_limit: Maximum size of a request's body in bytes.
        max_wait_seconds: Seconds that an accepted request may wait for the model before it gets 429.
        body_seconds: Seconds that a client may take to send the request's body.
        auto_truncate: Truncate texts that are longer than the model's limit, unless the request says otherwise.
    """

    max_concurrent_requests: int = 512
    max_client_batch_size: int = 32
    max_batch_tokens: int = 16384
    payload_limit: int = 2_000_000
    max_wait_seconds: float = 30.0
    body_seconds: float = 10.0
    auto_truncate: bool = True
