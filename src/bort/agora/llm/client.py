"""One request to an API that speaks OpenAI's protocol, and what can come of it."""

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
"""What is sent as a key where there is none; servers of one's own do not look."""
_MOST_BYTES = 1 << 24
_LONGEST_MESSAGE = 300


class TokenChoices(NamedTuple):
    """A token of an answer, and what might have stood in its place."""

    token: bytes
    log_p: float
    others: list[tuple[bytes, float]]


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Attributes:
        text: What the model wrote; empty where it refused.
        refusal: Its refusal.
        finish: Why it ended: `stop`, `length`, `content_filter`.
        tokens: Of the text, where the server gives them.
        prompt_tokens: That it read; None where the server does not say.
        completion_tokens: That it wrote.
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
        kind: `refused`: the server does not take this request; `busy`: it asks for patience; `broken`: it or the line
            to it failed; `hopeless`: no request can succeed.
        wait_seconds: How long the server asks to wait.
        charged: Whether the answer may have been made, and be on the bill.
    """

    def __init__(
        self,
        message: str,
        kind: Literal["refused", "busy", "broken", "hopeless"],
        *,
        wait_seconds: float | None = None,
        charged: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind, self.wait_seconds, self.charged = kind, wait_seconds, charged


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked.

    Attributes:
        model: As the server calls it.
        url: Of the API, up to `/v1`.
        key: Is sent to the server, and never shown.
        timeout_seconds: Longest time of a request.
    """

    model: str
    url: str
    key: str = field(repr=False)
    timeout_seconds: float


class ChatClient:
    """Sends single requests; several threads may use it.

    Args:
        endpoint: Where to.

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
            TroubleError: There is none.
        """
        openai = openai_package()
        began, content = time.monotonic(), bytearray()
        try:
            with self._client.chat.completions.with_streaming_response.create(**body) as response:
                for block in response.iter_bytes():
                    content += block
                    # A server that sends a byte now and then never breaks the limit of a single wait.
                    if time.monotonic() - began > self._endpoint.timeout_seconds:
                        raise TroubleError("did not answer in time", "broken", charged=True)
                    if len(content) > _MOST_BYTES:
                        raise TroubleError("sent an answer without end", "broken", charged=True)
        except TroubleError:
            raise
        except openai.APIStatusError as error:
            raise self._trouble(error.status_code, error.response.headers, error.message) from None
        except openai.APIConnectionError as error:
            # A request that got through may have been answered, and be on the bill.
            charged = not type(error.__cause__).__name__.startswith("Connect")
            if isinstance(error, openai.APITimeoutError):
                raise TroubleError("did not answer in time", "broken", charged=charged) from None
            told = f"cannot be reached: {self._shown(error.__cause__ or error)}"
            raise TroubleError(told, "broken", charged=charged) from None
        except Exception as error:
            # What the HTTP library raises while an answer comes in, whichever the openai package is built on.
            raise TroubleError(f"broke off its answer: {self._shown(error)}", "broken", charged=True) from None
        return parse_reply(bytes(content))

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    def _trouble(self, status: int, headers: Mapping[str, str], message: str) -> TroubleError:
        told = f"answered with status {status}: {self._shown(message)}"
        if status in (401, 403, 404) or "insufficient_quota" in message:
            return TroubleError(told, "hopeless")
        if status in (408, 409, 429) or (status == 503 and "retry-after" in headers):
            return TroubleError(told, "busy", wait_seconds=retry_after(headers, time.time()))
        return TroubleError(told, "broken" if status >= 500 and status != 501 else "refused")

    def _shown(self, message: object) -> str:
        """A message in one line, without the key that some servers repeat."""
        text = " ".join(str(message).split())
        if self._endpoint.key != NO_KEY:
            text = text.replace(self._endpoint.key, "***")
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def openai_package() -> Any:
    """The `openai` package.

    Raises:
        BortError: It is not installed.
    """
    try:
        import openai
    except ImportError:
        raise BortError("asking an LLM needs the openai package: pip install 'bort[llm]'") from None
    return openai


def api_key(key_file: str | None, url: str) -> str:
    """The key from a file, or from OPENAI_API_KEY. A server of one's own often needs none.

    Raises:
        BortError: The file cannot be read or is empty, or OpenAI's own API is asked without a key.
    """
    if key_file is not None:
        try:
            key = Path(key_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise BortError(f"cannot be read: {reason}", file=key_file) from None
        if not key or not key.isascii() or len(key.split()) != 1:
            raise BortError("must hold an API key and nothing else", file=key_file)
        return key
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and url == OPENAI_URL:
        raise BortError(
            "needs an API key: set OPENAI_API_KEY, or give --teacher-key-file; --teacher-url asks elsewhere"
        )
    return key or NO_KEY


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110)."""
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
    """Read the body of an answer.

    Raises:
        TroubleError: It is no such body.
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
