"""A server that speaks OpenAI's protocol, in a thread, and misbehaves on demand."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[dict[str, Any], int], "Response | str | dict[str, Any]"]


@dataclass
class Response:
    """What is sent: a status, headers, and a body in pieces with pauses between them."""

    body: bytes | Mapping[str, Any] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    pieces: int = 1
    pause: float = 0.0
    breaks_off: bool = False


def error(status: int, message: str, **headers: str) -> Response:
    told = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    return Response(told, status, {name.replace("_", "-"): value for name, value in headers.items()})


def completion(
    content: str | None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    tokens: Sequence[tuple[str, Mapping[str, float]]] | None = None,
    usage: tuple[int, int] | None = (100, 10),
) -> dict[str, Any]:
    """A chat completion. `tokens`: each token, and the probabilities of it and of others in its place."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": refusal},
        "finish_reason": finish,
        "logprobs": None,
    }
    if tokens is not None:
        choice["logprobs"] = {
            "content": [
                {
                    "token": token,
                    "bytes": list(token.encode()),
                    "logprob": math.log(shares[token]),
                    "top_logprobs": [
                        {"token": other, "bytes": list(other.encode()), "logprob": math.log(p)}
                        for other, p in shares.items()
                    ],
                }
                for token, shares in tokens
            ]
        }
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if usage is not None:
        body["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))
    return body


def asked_text(request: Mapping[str, Any]) -> str:
    """The text that a request is about."""
    return str(request["messages"][-1]["content"])


def labels_cats(request: dict[str, Any], number: int) -> str:
    text = asked_text(request).rpartition("\n\n")[2]  # of one that has the instructions before it, too
    return json.dumps({"label": "cat" if "cat" in text else "other"})


class FakeLLM:
    """The server.

    Attributes:
        behave: What it answers, from the request and its number; a text is the content of a completion.
        requests: All that came, in order.
        most_at_once: Requests that it has had at a time.
    """

    def __init__(self, behave: Behaviour = labels_cats) -> None:
        self.behave, self.requests, self.keys, self.times = behave, [], [], []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    outer.requests.append(request)
                    outer.times.append(time.monotonic())
                    outer.keys.append(self.headers.get("authorization"))
                    number = len(outer.requests)
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                try:
                    said = outer.behave(request, number)
                    if isinstance(said, str):
                        said = completion(said)
                    self._send(said if isinstance(said, Response) else Response(said))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with outer._lock:
                        outer.at_once -= 1

            def _send(self, said: Response) -> None:
                body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
                time.sleep(said.delay)
                if said.status == 0:
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body) + 1000 * said.breaks_off))
                self.end_headers()
                size = max(1, math.ceil(len(body) / said.pieces))
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    self.wfile.flush()
                    time.sleep(said.pause)
                if said.breaks_off:
                    self.close_connection = True

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def texts(self) -> list[str]:
        """What it was asked about."""
        return [asked_text(request) for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
