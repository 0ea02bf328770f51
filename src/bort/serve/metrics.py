"""Metrics of a server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Requests, errors, batches, tokens and times of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter("bort_requests_total", "Requests", ["route", "status"], registry=self.registry)
        self.errors = Counter("bort_errors_total", "Requests refused or failed", ["kind"], registry=self.registry)
        self.seconds = Histogram(
            "bort_request_seconds", "Time from the first byte to the answer", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.depth = Gauge("bort_queue_depth", "Accepted requests without an answer", ["model"], registry=self.registry)
        self.batch_texts = Histogram(
            "bort_batch_texts", "Texts of a batch", ["model"], buckets=_SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "bort_batch_seconds", "Time of a batch", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self.tokens = Counter("bort_tokens_total", "Tokens computed", ["model"], registry=self.registry)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        if (known := self._known.get((route, status))) is None:
            # Looking up a series by its labels takes longer than adding to it.
            known = self._known[route, status] = self.requests.labels(route, status), self.seconds.labels(route)
        requests, times = known
        requests.inc()
        times.observe(seconds)

    def observe_batch(self, model: str, texts: int, tokens: int, seconds: float) -> None:
        """Count one batch."""
        self.batch_texts.labels(model).observe(texts)
        self.batch_seconds.labels(model).observe(seconds)
        self.tokens.labels(model).inc(tokens)

    def exposed(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
