"""The cost of LLM requests, and its limit."""

from __future__ import annotations

from bort.agora.answer_cache import Charge

_MILLION = 1e6


class Budget:
    """Money spent and reserved.

    A request is sent only if even its maximum cost stays within the limit. This maximum is reserved until the answer
    gives the actual cost.

    Args:
        input_price: US dollars per million prompt tokens.
        output_price: US dollars per million answer tokens.
        limit_usd: Maximum cost; None: no limit.
    """

    def __init__(self, input_price: float = 0.0, output_price: float = 0.0, limit_usd: float | None = None) -> None:
        self.limit_usd, self._input, self._output = limit_usd, input_price, output_price
        self.requests, self.spent = 0, Charge()
        self._aside = 0.0

    def charge(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        """Return the charge for these tokens."""
        usd = (prompt_tokens * self._input + completion_tokens * self._output) / _MILLION
        return Charge(prompt_tokens, completion_tokens, usd)

    def set_aside(self, most: Charge) -> bool:
        """Reserve the maximum cost of a request, and return whether the limit allows it."""
        if self.limit_usd is not None and self.spent.usd + self._aside + most.usd > self.limit_usd:
            return False
        self._aside += most.usd
        return True

    def settle(self, most: Charge, charge: Charge | None) -> None:
        """Replace the reservation of a request by its actual charge; None if it was not charged."""
        self._aside = max(0.0, self._aside - most.usd)
        if charge is not None:
            self.count(1, charge)

    def count(self, requests: int, charge: Charge) -> None:
        """Count charges of this process, or of the same run before an interruption."""
        self.requests += requests
        prompt, completion, usd = self.spent
        self.spent = Charge(prompt + charge.prompt_tokens, completion + charge.completion_tokens, usd + charge.usd)
