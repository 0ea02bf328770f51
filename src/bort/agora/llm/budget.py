"""What asking an LLM costs, and the limit that it must not pass."""

from __future__ import annotations

from bort.agora.answer_cache import Charge

_MILLION = 1e6


class Budget:
    """Dollars spent and set aside.

    A request is sent only if the limit holds even where it takes as many tokens as it can at most. So much is set aside
    until its answer tells what it took.

    Args:
        input_price: US dollars for a million tokens of prompts.
        output_price: US dollars for a million tokens of answers.
        limit_usd: Never passed; None sets no limit.
    """

    def __init__(self, input_price: float = 0.0, output_price: float = 0.0, limit_usd: float | None = None) -> None:
        self.limit_usd, self._input, self._output = limit_usd, input_price, output_price
        self.requests, self.spent = 0, Charge()
        self._aside = 0.0

    def charge(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        """What so many tokens cost."""
        usd = (prompt_tokens * self._input + completion_tokens * self._output) / _MILLION
        return Charge(prompt_tokens, completion_tokens, usd)

    def set_aside(self, most: Charge) -> bool:
        """Set the most that a request can cost aside, if the limit leaves so much."""
        if self.limit_usd is not None and self.spent.usd + self._aside + most.usd > self.limit_usd:
            return False
        self._aside += most.usd
        return True

    def settle(self, most: Charge, charge: Charge | None) -> None:
        """Count what a request took in place of what was set aside for it; None: nothing, as it was turned down."""
        self._aside = max(0.0, self._aside - most.usd)
        if charge is not None:
            self.count(1, charge)

    def count(self, requests: int, charge: Charge) -> None:
        """Count what was paid, now or by the same run before it was interrupted."""
        self.requests += requests
        prompt, completion, usd = self.spent
        self.spent = Charge(prompt + charge.prompt_tokens, completion + charge.completion_tokens, usd + charge.usd)
