"""The limits of a server, named as in text-embeddings-inference where it has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a server takes, and for how long it waits.

    Args:
        max_concurrent_requests: Requests accepted and not yet answered; one more is refused with 429.
        max_client_batch_size: Texts or pairs of one request.
        max_batch_tokens: Tokens that one batch of the model holds, padding not counted.
        payload_limit: Bytes of a request's body.
        max_wait_seconds: Time that an accepted request may wait for the model before it is refused with 429.
        body_seconds: Time that a client may take to send its body.
        auto_truncate: Cut texts that are longer than the model's limit, unless the request says otherwise.
    """

    max_concurrent_requests: int = 512
    max_client_batch_size: int = 32
    max_batch_tokens: int = 16384
    payload_limit: int = 2_000_000
    max_wait_seconds: float = 30.0
    body_seconds: float = 10.0
    auto_truncate: bool = True
