"""Cached requests to an LLM, each paid for only once, and their usage."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from bort.agora.answer_cache import AnswerCache
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import Reply
from bort.agora.llm.options import Messages
from bort.agora.llm.reading import CUT_OFF
from bort.progress import bar, say

_NOT_ASKED = "not asked: the budget is used up"


class PaidAnswers:
    """The answers of an LLM under the same instructions.

    Args:
        name: Name of the LLM to display.
        asker: Sends the requests.
        cache: Keeps the answers.
        budget: Budget of the asker; it includes what the same run paid before an interruption.
        max_tokens: Maximum length of an answer; truncated ones are requested again once this is greater.
    """

    def __init__(self, name: str, asker: Asker, cache: AnswerCache, budget: Budget, max_tokens: int) -> None:
        self.name, self.budget = name, budget
        self._asker, self._cache, self._max_tokens = asker, cache, max_tokens
        self._abstained: dict[str, str | None] = {}
        self._cached = 0
        budget.count(*cache.charged())

    def get(
        self, prompts: Mapping[str, Messages], read: Callable[[Reply], dict[str, Any]], what: str
    ) -> dict[str, dict[str, Any]]:
        """Return for each prompt what `read` makes of the reply: `answer`, or `abstained` with the reason.

        Args:
            prompts: Prompts by the digest of the request.
            read: Converts a reply to what is kept.
            what: Verb for the progress bar.

        Raises:
            BortError: The server rejects all requests, or fails repeatedly.
        """
        with self._cache.alone():
            found: dict[str, dict[str, Any]] = {
                name: kept
                for name, kept in self._cache.known(prompts).items()
                if kept.get("abstained") != CUT_OFF or kept["max_tokens"] >= self._max_tokens
            }
            self._cached += len(found.keys() - self._abstained.keys())
            new = {name: messages for name, messages in prompts.items() if name not in found}
            if new:
                answered = (prompts[name] for name, kept in found.items() if "answer" in kept)
                self._ask(new, next(answered, None), read, what, found)
        for name in prompts:
            self._abstained[name] = found.setdefault(name, {"abstained": _NOT_ASKED}).get("abstained")
        if new:
            say(self.summary())
        return found

    def _ask(
        self,
        new: Mapping[str, Messages],
        answered: Messages | None,
        read: Callable[[Reply], dict[str, Any]],
        what: str,
        found: dict[str, dict[str, Any]],
    ) -> None:
        known, outcomes = len(found), self._asker.ask(new, answered)
        with bar(f"{self.name} {what}", len(new)) as shown, contextlib.closing(outcomes):
            for outcome in outcomes:
                kept = {}
                if outcome.reply is not None:
                    found[outcome.name] = read(outcome.reply) | {"max_tokens": self._max_tokens}
                    kept = {outcome.name: found[outcome.name]}
                elif outcome.given_up is not None:
                    found[outcome.name] = {"abstained": outcome.given_up}  # not cached, as it may succeed another time
                if kept or outcome.charge is not None:
                    self._cache.keep(kept, outcome.charge)
                spent = self.budget.spent.usd
                shown.update(len(found) - known, f"{spent:.2f} USD" if spent else "")

    @property
    def usage(self) -> dict[str, Any]:
        """What was asked, and what the run has paid, including before an interruption, for `metrics.json`."""
        abstained = Counter(reason for reason in self._abstained.values() if reason is not None)
        return {
            "texts": len(self._abstained),
            "from_cache": self._cached,
            "abstained": dict(sorted(abstained.items())),
            "requests": self.budget.requests,
            **self.budget.spent._asdict(),
            "budget_usd": self.budget.limit_usd,
            "out_of_budget": self._asker.out_of_budget,
        }

    def summary(self) -> str:
        """Return the usage in one line."""
        spent = self.budget.spent
        parts = [
            f"{self.name}: {len(self._abstained):,} texts, {self._cached:,} of them known before",
            f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens",
        ]
        if spent.usd:
            limit = f" of {self.budget.limit_usd:g}" if self.budget.limit_usd else ""
            parts.append(f"{spent.usd:.4f}{limit} USD")
        if reasons := self.usage["abstained"]:
            parts.append("no answer for " + ", ".join(f"{count:,} ({reason})" for reason, count in reasons.items()))
        return "; ".join(parts)
