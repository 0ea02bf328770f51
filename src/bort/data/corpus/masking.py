"""Dynamic masking for the masked-LM objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.model.config import IGNORED


@dataclass(frozen=True)
class Masker:
    """Chooses 15 % of a row's ordinary tokens: 80 % become `<mask>`, 10 % a random token, 10 % stay.

    The number of chosen tokens is fixed, not random, so rows of equal length weigh the same in a batch's mean loss.

    Args:
        mask_id: Id of `<mask>`.
        special_ids: Ids that are never chosen and never drawn.
        vocab_size: Random tokens are drawn from the ids below this.
        probability: Share of tokens to choose.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    probability: float = 0.15

    def __call__(self, ids: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask one row.

        Args:
            ids: Token ids. *Shape:* (seq,).
            rng: Random generator; the same state gives the same masks.

        Returns:
            Masked inputs, and labels (`IGNORED` for tokens not chosen). *Shape:* (seq,) each.
        """
        inputs, labels = ids.copy(), np.full_like(ids, IGNORED)
        ordinary = np.flatnonzero(~np.isin(ids, self.special_ids))
        count = round(self.probability * len(ordinary)) or min(1, len(ordinary))
        chosen = rng.permutation(ordinary)[:count]
        labels[chosen] = ids[chosen]
        fate = rng.random(count)
        inputs[chosen[fate < 0.8]] = self.mask_id
        strangers = chosen[fate >= 0.9]
        inputs[strangers] = self._random_ids(len(strangers), rng)
        return inputs, labels

    def _random_ids(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw uniformly from the non-special ids: draw a rank among them, then skip over the special ones."""
        drawn = rng.integers(0, self.vocab_size - len(self.special_ids), size=count, dtype=np.int64)
        for special in sorted(self.special_ids):
            drawn += drawn >= special
        return drawn
