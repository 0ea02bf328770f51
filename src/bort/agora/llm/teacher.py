"""An LLM as the teacher."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bort.agora.answer_cache import AnswerCache, digest
from bort.agora.answers import answer_row
from bort.agora.command_teacher import asked_row
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.prompt import LabelPrompt
from bort.agora.llm.reading import CUT_OFF, read_answer
from bort.agora.pooled_labels import Says
from bort.data.tables.examples import Example
from bort.progress import bar, console


class ChatTeacher:
    """Labels by asking an LLM of each text once, in this run and in all that ask the same.

    Texts that it has no label for, that it refuses, and that the budget does not allow are not known to it.

    Args:
        name: For people.
        prompt: What it is told.
        asker: Asks it.
        cache: Keeps its answers.
        budget: What the asker spends.
        max_tokens: Longest answer; one that was cut off is asked for again when this has grown.
    """

    def __init__(
        self, name: str, prompt: LabelPrompt, asker: Asker, cache: AnswerCache, budget: Budget, max_tokens: int
    ) -> None:
        self.name, self._prompt, self._asker, self._cache = name, prompt, asker, cache
        self._budget, self._max_tokens = budget, max_tokens
        self._told: dict[str, str | None] = {}
        self._cached = 0

    def __call__(self, examples: Sequence[Example]) -> Says:
        """As of `Teacher`.

        Raises:
            BortError: The server takes no request, or fails again and again.
        """
        asked = {digest(asked_row(example)): example for example in examples}
        with self._cache.alone():
            known = {
                name: answer
                for name, answer in self._cache.known(asked).items()
                if answer.get("abstained") != CUT_OFF or answer["max_tokens"] >= self._max_tokens
            }
            self._cached += len(known.keys() - self._told.keys())
            new = {name: example for name, example in asked.items() if name not in known}
            if new:
                known |= self._ask(new)
        for name in asked:
            self._told[name] = known.get(name, {"abstained": "not asked: the budget is used up"}).get("abstained")
        task = self._prompt.task
        rows = [answer_row(known.get(name, {}).get("answer"), task) for name in map(digest, map(asked_row, examples))]
        if new:
            console().print(self.summary(), soft_wrap=True)
        return np.array(rows, dtype=np.float64).reshape(len(examples), task.outputs)

    def _ask(self, new: dict[str, Example]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        prompts = {name: self._prompt.messages(example) for name, example in new.items()}
        with bar(f"{self.name} answers", len(new)) as shown, contextlib.closing(self._asker.ask(prompts)) as outcomes:
            for outcome in outcomes:
                kept = {}
                if outcome.reply is not None:
                    answer = read_answer(outcome.reply, self._prompt.task) | {"max_tokens": self._max_tokens}
                    found[outcome.name] = kept[outcome.name] = answer
                elif outcome.given_up is not None:
                    found[outcome.name] = {"abstained": outcome.given_up}  # may go better another time
                if kept or outcome.charge is not None:
                    self._cache.keep(kept, outcome.charge)
                shown.update(len(found), f"{self._budget.spent.usd:.2f} USD" if self._budget.spent.usd else "")
        return found

    @property
    def usage(self) -> dict[str, Any]:
        """What was asked of it, and what that took, for `metrics.json`: this run's, also before an interruption."""
        abstained = Counter(reason for reason in self._told.values() if reason is not None)
        return {
            "texts": len(self._told),
            "from_cache": self._cached,
            "abstained": dict(sorted(abstained.items())),
            "requests": self._budget.requests,
            **self._budget.spent._asdict(),
            "budget_usd": self._budget.limit_usd,
            "out_of_budget": self._asker.out_of_budget,
        }

    def summary(self) -> str:
        """The usage in a line."""
        spent = self._budget.spent
        parts = [
            f"{self.name}: {len(self._told):,} texts, {self._cached:,} of them known before",
            f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens",
        ]
        if spent.usd:
            limit = f" of {self._budget.limit_usd:g}" if self._budget.limit_usd else ""
            parts.append(f"{spent.usd:.4f}{limit} USD")
        reasons = self.usage["abstained"]
        if reasons:
            parts.append("no label for " + ", ".join(f"{count:,} ({reason})" for reason, count in reasons.items()))
        return "; ".join(parts)
