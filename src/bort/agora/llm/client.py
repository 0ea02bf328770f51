"""Single requests to an OpenAI-compatible API, their replies and errors."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bort.errors import BortError

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent if there is no API key; self-hosted servers usually ignore it."""
_MOST_BYTES = 1 << 24
_LONGEST_MESSAGE = 300
_EXHAUSTED = ("insufficient_quota", "credit balance is too low")
"""Words of servers that tell of an account without money with another status than 402."""
_KEY_RULE = "must hold an API key and nothing else"


class TokenChoices(NamedTuple):
    """A token of an answer, and its alternatives."""

    token: bytes
    log_p: float
    others: list[tuple[bytes, float]]


@dataclass(frozen=True)
class Reply:
    """A complete answer.

    Attributes:
        text: What the model wrote; empty if it refused.
        refusal: Its refusal.
        finish: Why it ended: `stop`, `length`, `content_filter`.
        tokens: Tokens of the text, if the server returns them.
        prompt_tokens: Number of tokens read; None if the server does not say.
        completion_tokens: Number of tokens written; None likewise.
    """

    text: str
    refusal: str | None = None
    finish: str = "stop"
    tokens: list[TokenChoices] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class TroubleError(Exception):
    """A request without an answer.

    Attributes:
        kind: `refused`: the server rejects this request; `forbidden`: this text or, if no request has succeeded, maybe
            all; `busy`: it asks to wait; `broken`: it or the connection failed; `hopeless`: no request can succeed.
        wait_seconds: How long the server asks to wait.
        charged: Whether the answer may have been generated and billed.
    """

    def __init__(
        self,
        message: str,
        kind: Literal["refused", "forbidden", "busy", "broken", "hopeless"],
        *,
        wait_seconds: float | None = None,
        charged: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind, self.wait_seconds, self.charged = kind, wait_seconds, charged


@dataclass(frozen=True)
class Endpoint:
    """The API endpoint of a model.

    Attributes:
        model: Name of the model on the server.
        url: URL of the API, up to `/v1`.
        key: API key; sent to the server, but never shown.
        timeout_seconds: Timeout of a request.
    """

    model: str
    url: str
    key: str = field(repr=False)
    timeout_seconds: float


class ChatClient:
    """Sends single requests; several threads may use it.

    Args:
        endpoint: Where to send them.

    Raises:
        BortError: The `openai` package is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        openai = openai_package()
        self._client: Any = openai.OpenAI(
            api_key=endpoint.key, base_url=endpoint.url, timeout=endpoint.timeout_seconds, max_retries=0
        )

    def send(self, body: Mapping[str, Any]) -> Reply:
        """Send a request and read its answer.

        Raises:
            TroubleError: There is no answer.
        """
        openai = openai_package()
        began, content = time.monotonic(), bytearray()
        try:
            with self._client.chat.completions.with_streaming_response.create(**body) as response:
                for block in response.iter_bytes():
                    content += block
                    # The client's timeout applies to each read; a server that trickles bytes never exceeds it.
                    if time.monotonic() - began > self._endpoint.timeout_seconds:
                        raise TroubleError("did not answer in time", "broken", charged=True)
                    if len(content) > _MOST_BYTES:
                        raise TroubleError("sent an answer without end", "broken", charged=True)
        except TroubleError:
            raise
        except openai.APIStatusError as error:
            raise self._trouble(error.status_code, error.response.headers, error.message) from None
        except openai.APIConnectionError as error:
            # A request that reached the server may have been answered and billed.
            charged = not type(error.__cause__).__name__.startswith("Connect")
            if isinstance(error, openai.APITimeoutError):
                raise TroubleError("did not answer in time", "broken", charged=charged) from None
            told = f"cannot be reached: {self._shown(error.__cause__ or error)}"
            raise TroubleError(told, "broken", charged=charged) from None
        except Exception as error:
            # Errors of the HTTP library while reading the answer, whichever library the openai package uses.
            raise TroubleError(f"broke off its answer: {self._shown(error)}", "broken", charged=True) from None
        return parse_reply(bytes(content))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _trouble(self, status: int, headers: Mapping[str, str], message: str) -> TroubleError:
        told = f"answered with status {status}: {self._shown(message)}"
        if status in (401, 402, 404) or any(word in message for word in _EXHAUSTED):
            return TroubleError(told, "hopeless")
        if status == 403:
            return TroubleError(told, "forbidden")
        if status in (408, 409, 429) or (status == 503 and "retry-after" in headers):
            return TroubleError(told, "busy", wait_seconds=retry_after(headers, time.time()))
        return TroubleError(told, "broken" if status >= 500 and status != 501 else "refused")

    def _shown(self, message: object) -> str:
        """Format a message in one line, without the API key that some servers repeat."""
        text = " ".join(str(message).split())
        if self._endpoint.key != NO_KEY:
            for key in (self._endpoint.key, repr(self._endpoint.key)[1:-1]):  # as it is, and as an exception shows it
                text = text.replace(key, "***")
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def openai_package() -> Any:
    """Import the `openai` package.

    Raises:
        BortError: It is not installed.
    """
    try:
        import openai
    except ImportError:
        raise BortError("asking an LLM needs the openai package: pip install 'bort[llm]'") from None
    return openai


def api_key(key_file: str | None, url: str) -> str:
    """Return the API key from a file, or from OPENAI_API_KEY. Self-hosted servers often need none.

    Raises:
        BortError: The file cannot be read or holds no key, the variable holds more than a key, or OpenAI's own API is
            used without a key.
    """
    if key_file is not None:
        try:
            key = Path(key_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise BortError(f"cannot be read: {reason}", file=key_file) from None
        if not _is_key(key):
            raise BortError(_KEY_RULE, file=key_file)
        return key
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and url == OPENAI_URL:
        raise BortError(
            "needs an API key: set OPENAI_API_KEY, or give --teacher-key-file; --teacher-url asks elsewhere"
        )
    if key and not _is_key(key):
        raise BortError(f"OPENAI_API_KEY {_KEY_RULE}")
    return key or NO_KEY


def _is_key(key: str) -> bool:
    """Whether a text can be sent in a header; otherwise the HTTP library would show it in its exception."""
    return key.isascii() and key.isprintable() and len(key.split()) == 1


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110)."""
    try:
        wait = float(headers.get("retry-after-ms") or "nan") / 1000
        if math.isnan(wait):
            wait = float(headers.get("retry-after") or "nan")
    except ValueError:
        try:
            wait = parsedate_to_datetime(headers["retry-after"]).timestamp() - now
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def parse_reply(content: bytes) -> Reply:
    """Parse the body of an answer.

    Raises:
        TroubleError: The body is invalid.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message, usage = choice["message"], body.get("usage") or {}
        text = message.get("content") or ""
        entries = (choice.get("logprobs") or {}).get("content") or []
        reply = Reply(
            text,
            message.get("refusal"),
            choice.get("finish_reason") or "stop",
            [
                TokenChoices(_token(entry), float(entry["logprob"]), _others(entry.get("top_logprobs") or []))
                for entry in entries
            ],
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise TroubleError("sent what is no answer of OpenAI's protocol", "broken", charged=True) from None
    if not isinstance(text, str):
        raise TroubleError("sent an answer that is no text", "broken", charged=True)
    return reply


def _token(entry: Mapping[str, Any]) -> bytes:
    known = entry.get("bytes")
    return bytes(known) if known is not None else str(entry["token"]).encode("utf-8", "surrogatepass")


def _others(entries: list[Mapping[str, Any]]) -> list[tuple[bytes, float]]:
    return [(_token(entry), float(entry["logprob"])) for entry in entries]


def _count(tokens: Any) -> int | None:
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else None
