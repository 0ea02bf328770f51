"""`bort serve`: models over HTTP, with a page to try them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

from bort.bounds import AtLeast, AtMost, PositiveFloat, PositiveInt, validate

POSITIONAL = ("models",)


@dataclass
class ServeArguments:
    """Arguments of `bort serve`.

    Example:
        >>> ServeArguments(["fast"]).port
        8080
    """

    models: list[str]
    """fine-tuned or exported folders, or encoders, as FOLDER or NAME=FOLDER; the first answers requests that name no
    model"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for all interfaces"""
    port: Annotated[int, AtLeast(0), AtMost(65_535)] = 8080
    """port to listen on; 0 picks a free one and prints it"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""
    max_concurrent_requests: PositiveInt = 512
    """maximum number of accepted requests without an answer yet; further ones get 429"""
    max_client_batch_size: PositiveInt = 32
    """maximum number of texts or pairs in a request; more get 413"""
    max_batch_tokens: PositiveInt = 16384
    """maximum number of tokens per batch of the model"""
    payload_limit: PositiveInt = 2_000_000
    """maximum size of a request's body in bytes; more get 413"""
    max_wait_seconds: PositiveFloat = 30.0
    """seconds that a request may wait for the model before it gets 429"""
    body_seconds: PositiveFloat = 10.0
    """seconds that a client may take to send the request's body"""
    auto_truncate: bool = True
    """truncate texts that are longer than the model's limit, unless a request says otherwise"""
    api_key_file: str | None = None
    """file with the key that clients must send as Authorization: Bearer KEY"""
    cors_origin: list[str] = field(default_factory=list)
    """origins whose pages may send requests, such as https://example.org"""
    drain_seconds: PositiveFloat = 30.0
    """seconds to answer accepted requests after SIGTERM"""
    watch: bool = False
    """reload a model when its folder is replaced; SIGHUP always reloads all models"""
    access_log: bool = True
    """write one JSON line per request to standard error, without its texts"""


def serve(arguments: ServeArguments) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C.

    POST /predict accepts the requests of text-embeddings-inference, POST / those of the Hugging Face inference API. An
    encoder answers POST /embed, and POST /v1/embeddings like OpenAI's API. GET / is a page to try the model; GET /docs
    describes all routes. Needs bort[serve].

    Example:
        >>> import bort
        >>> bort.serve(bort.ServeArguments(["runs/topics"], port=8080))  # doctest: +SKIP
    """
    validate(arguments)
    from bort import __version__
    from bort.errors import BortError

    key = _key(arguments.api_key_file)
    try:
        import uvicorn

        from bort.serve.app import build
        from bort.serve.guard import Guard, with_cors
        from bort.serve.metrics import Metrics
        from bort.serve.model import ServedModel
        from bort.serve.registry import Registry, named
        from bort.serve.server import Server, bound
        from bort.serve.settings import Limits
        from bort.serve.short_cut import ShortCut
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("bort"):
            raise
        raise BortError(f"needs {error.name}; install bort[serve]", value="serve") from None

    limits = Limits(**{one.name: getattr(arguments, one.name) for one in fields(Limits)})
    metrics = Metrics()

    def load(name: str, folder: str) -> ServedModel:
        def observe(texts: int, tokens: int, seconds: float) -> None:
            metrics.observe_batch(name, texts, tokens, seconds)

        return ServedModel(name, folder, limits, arguments.threads, observe)

    with bound(arguments.host, arguments.port) as sockets:  # before the models are loaded, which takes longer
        registry = Registry(named(arguments.models), load)
        routes = build(registry, metrics, __version__)
        options = {} if arguments.access_log else {"log": None}
        guard = Guard(ShortCut(routes, registry), limits, metrics, key, **options)
        config = uvicorn.Config(
            with_cors(guard, arguments.cors_origin),
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            backlog=2048,
        )
        Server(config, registry, guard, drain_seconds=arguments.drain_seconds, watch=arguments.watch).run(sockets)


def _key(file: str | None) -> str | None:
    from pathlib import Path

    from bort.errors import BortError

    if file is None:
        return None
    try:
        key = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "must be UTF-8"
        raise BortError(f"cannot be read: {reason}", file=file, setting="api_key_file") from None
    if not key:
        raise BortError("must hold the key", file=file, setting="api_key_file")
    return key
