"""Options of requests; OpenAI-compatible servers support different ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Messages = Sequence[Mapping[str, str]]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "top_logprobs": (20, 5, None),
    "response_format": ("json_schema", "json_object", None),
    "max_completion_tokens": ("max_completion_tokens", "max_tokens", None),
    "temperature": (True, None),
    "system": (True, None),
}
"""Values of each option, from the preferred one to what any server accepts; options in the order of giving them up."""
_NAMED = {
    "top_logprobs": ("logprob",),
    "response_format": ("response_format", "json_schema", "json_object", "guided", "grammar", "structured output"),
    "max_completion_tokens": ("max_completion_tokens", "max_tokens"),
    "temperature": ("temperature",),
    "system": ("system role", "system message", "role 'system'", "roles must alternate", '"system"'),
}
"""Words in a server's refusal that identify an option."""
_TOLD = {
    "top_logprobs": "log-probabilities",
    "response_format": "structured output",
    "max_completion_tokens": "a limit of the answer's length",
    "temperature": "a temperature",
    "system": "a system message",
}


@dataclass
class Options:
    """Options of the requests to a server, and what it has refused so far.

    Args:
        schema: JSON schema of an answer.
        max_tokens: Maximum length of an answer.
        temperature: Sampling temperature.
        logprobs: Whether to request the alternatives to each token.
    """

    schema: Mapping[str, Any]
    max_tokens: int
    temperature: float = 0.0
    logprobs: bool = True
    _given_up: dict[str, int] = field(default_factory=dict)

    def body(self, model: str, messages: Messages) -> dict[str, Any]:
        """Return the body of a request."""
        body: dict[str, Any] = {"model": model, "messages": list(messages)}
        if self._choice("system") is None and messages[0]["role"] == "system":
            first, second, *others = messages
            joined = {"role": second["role"], "content": f"{first['content']}\n\n{second['content']}"}
            body["messages"] = [joined, *others]
        if (name := self._choice("max_completion_tokens")) is not None:
            body[name] = self.max_tokens
        if self._choice("temperature") is not None:
            body["temperature"] = self.temperature
        if (count := self._choice("top_logprobs")) is not None:
            body |= {"logprobs": True, "top_logprobs": count}
        kind = self._choice("response_format")
        if kind == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": dict(self.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif kind == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def give_up(self, message: str, *, keep_limit: bool = False) -> bool:
        """Reduce an option after a refusal: the one that the message names, or else the first that is left.

        Args:
            message: The server's refusal.
            keep_limit: Whether the answer's length must stay limited.

        Returns:
            Whether any option was left to reduce.
        """
        left = [name for name in _CHOICES if self._choice(name) is not None]
        if keep_limit and self._choice("max_completion_tokens") == _CHOICES["max_completion_tokens"][-2]:
            left.remove("max_completion_tokens")
        named = [name for name in left if any(word in message.lower() for word in _NAMED[name])]
        for name in (named or left)[:1]:
            self._given_up[name] = self._given_up.get(name, 0) + 1
        return bool(left)

    def start_over(self) -> None:
        """Restore all options, because the server refused the text and not an option."""
        self._given_up.clear()

    def lacking(self) -> list[str]:
        """Return the options that are not requested any more, in words."""
        return [_TOLD[name] for name in self._given_up if self._choice(name) is None]

    def _choice(self, name: str) -> Any:
        if name == "top_logprobs" and not self.logprobs:
            return None
        return _CHOICES[name][self._given_up.get(name, 0)]
