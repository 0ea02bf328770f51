"""Error responses: a status, a one-line message, and the kind of the error."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Kinds of errors, named as in text-embeddings-inference, with their HTTP status."""

    VALIDATION = ("Validation", 422)
    TOO_LARGE = ("Validation", 413)
    BACKEND = ("Backend", 424)
    OVERLOADED = ("Overloaded", 429)
    UNHEALTHY = ("Unhealthy", 503)
    UNAUTHORIZED = ("Unauthorized", 401)
    NOT_FOUND = ("NotFound", 404)
    TIMEOUT = ("Timeout", 408)

    @property
    def title(self) -> str:
        """The `error_type` of a response's body."""
        return self.value[0]

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self.value[1]


def described(path: str, status: int, message: str, title: str) -> dict[str, object]:
    """The body of an error response, in the format that the route's clients expect."""
    if path.startswith("/v1/"):  # the format of OpenAI's API
        return {"error": {"message": message, "type": title, "param": None, "code": status}}
    return {"error": message, "error_type": title}


class Refused(Exception):
    """A request is refused; the message is sent to the client.

    Args:
        kind: Kind of the error.
        message: One line, without tracebacks or data of other requests.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message
