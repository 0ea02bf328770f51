"""What is asked of the contestants: batches of token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bort.data.batches import token_budget_batches
from bort.predict.exported_engine import TOKENS_PER_BATCH, Feed

_FIRST_WORD, _PAD = 5, 1


@dataclass(frozen=True)
class Load:
    """Batches that are answered one after the other.

    Args:
        name: For people.
        lengths: Tokens of each text.
        batches: Indices of the texts of each batch.
    """

    name: str
    lengths: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Of all texts, padding not counted."""
        return sum(self.lengths)

    def feeds(self, vocab_size: int) -> list[Feed]:
        """Random token ids of these lengths, padded to the right."""
        rng = np.random.default_rng(0)
        made = []
        for indices in self.batches:
            shape = (len(indices), max(self.lengths[index] for index in indices))
            mask = np.zeros(shape, np.int64)
            for row, index in enumerate(indices):
                mask[row, : self.lengths[index]] = 1
            ids = rng.integers(_FIRST_WORD, vocab_size, shape)
            made.append({"input_ids": np.where(mask, ids, _PAD), "attention_mask": mask})
        return made


def fixed(batch_size: int, sequence_length: int) -> Load:
    """One batch of texts of one length."""
    name = f"{batch_size} x {sequence_length} tokens" if batch_size > 1 else f"{sequence_length} tokens"
    return Load(name, (sequence_length,) * batch_size, (tuple(range(batch_size)),))


def natural(texts: int) -> Load:
    """Texts of natural lengths (log-normal: half below 25 tokens, 95 % below 70, none above 224), sorted by length."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(25), np.log(70 / 25) / 1.645, texts))), 4, 224)
    found = tuple(int(length) for length in lengths)
    batches = token_budget_batches(found, max_tokens=TOKENS_PER_BATCH, max_rows=TOKENS_PER_BATCH)
    return Load(f"{texts} texts of natural lengths", found, tuple(map(tuple, batches)))
