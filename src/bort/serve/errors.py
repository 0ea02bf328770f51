"""What a client gets that cannot be answered: a status, one line that says why, and the kind of the error."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Kinds of errors by the names of text-embeddings-inference, with their usual HTTP status."""

    VALIDATION = ("Validation", 422)
    TOO_LARGE = ("Validation", 413)
    TOKENIZER = ("Tokenizer", 422)
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
    """The body of an error, in the form that the clients of a route know."""
    if path.startswith("/v1/"):  # as OpenAI's API has it
        return {"error": {"message": message, "type": title, "param": None, "code": status}}
    return {"error": message, "error_type": title}


class Refused(Exception):
    """A request that is not answered; its text is meant for the client.

    Args:
        kind: What is wrong.
        message: One line. It holds no traceback and nothing of another request.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message
