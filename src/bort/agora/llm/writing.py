"""The prompt for new texts near a mistake, and the parsing of the answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from bort.agora.llm.client import Reply
from bort.agora.llm.options import Messages
from bort.agora.llm.prompt import Instructions, shown
from bort.agora.llm.reading import CUT_OFF, json_part, plain_text
from bort.data.tables.examples import Example
from bort.data.tables.labels import shown_label

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")


@dataclass(frozen=True)
class WritingPrompt:
    """Asks for new texts near one that a classifier got wrong.

    Attributes:
        instructions: What the labels mean.
        count: Number of texts.
        pairs: Whether to ask for pairs of texts.
    """

    instructions: Instructions
    count: int
    pairs: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of an answer."""
        text: dict[str, Any] = {"type": "string"}
        item = _object({"text": text, "text_b": text}) if self.pairs else text
        return _object({"texts": {"type": "array", "items": item}})

    @property
    def head(self) -> Messages:
        """Messages before every mistake."""
        what = "pairs of texts" if self.pairs else "texts"
        form = '{"texts": [{"text": "...", "text_b": "..."}, ...]}' if self.pairs else '{"texts": ["...", ...]}'
        lines = [f"- {name}: {description}" for name, description in self.instructions.labels.items()]
        meanings = "\n".join(["What the labels mean:", *lines]) if lines else ""
        task = (
            f"You write training data for a classifier. You are shown what it got wrong. Write {self.count} new {what} "
            "of the same kind, length and language, as other people would write them: close to the one shown, so that "
            "the same mistake is likely, with the right label being the one shown as right. Vary words and details."
        )
        rule = f"Answer with JSON and nothing else: {form}"
        return [
            {"role": "system", "content": "\n\n".join(filter(None, [self.instructions.text, meanings, task, rule]))}
        ]

    def messages(self, mistake: Example, answer: str | None) -> Messages:
        """Return all messages of the request for a mistake.

        Args:
            mistake: The mistake, with its true label.
            answer: The classifier's wrong prediction.
        """
        parts = [shown(mistake), f"Right label: {shown_label(mistake.label)}"]
        if answer is not None:
            parts.append(f"The classifier's wrong answer: {answer}")
        return [*self.head, {"role": "user", "content": "\n\n".join(parts)}]


def read_texts(reply: Reply) -> dict[str, Any]:
    """Return what to keep of a reply: the items as `answer`, or `abstained` with the reason."""
    if reply.refusal or reply.finish == "content_filter":
        return {"abstained": "refused"}
    text = plain_text(reply.text)
    try:
        found = json.loads(json_part(text))
    except (ValueError, RecursionError):
        if text.startswith(("{", "[")) or reply.finish == "length":
            return {"abstained": CUT_OFF if reply.finish == "length" else "no texts"}
        found = [_BULLET.sub("", line).strip().strip('"') for line in text.splitlines() if line.strip()]
    items = found.get("texts") if isinstance(found, dict) else found
    return {"answer": items} if isinstance(items, list) and items else {"abstained": "no texts"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
