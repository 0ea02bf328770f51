"""Texts and pairs as padded batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bort.data.examples import Example


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples. `columns` maps each input of the model to a list of ids for each example."""

    columns: dict[str, list[list[int]]]
    cut: int
    """How many examples were longer than the limit and lost their end."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(ids) for ids in self.columns["input_ids"]]

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def batch(self, indices: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
        """Pad some examples to the longest of them. *Shape:* each (batch, longest)."""
        longest = max(len(self.columns["input_ids"][i]) for i in indices)
        out = {}
        for name, column in self.columns.items():
            pad = pad_token_id if name == "input_ids" else 0
            rows = [column[i] + [pad] * (longest - len(column[i])) for i in indices]
            out[name] = torch.tensor(rows, dtype=torch.long)
        return out


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int) -> Encoded:
    """Tokenise on all cores, in the library's threads.

    Args:
        examples: Texts, or pairs; all of one kind.
        tokenizer: Its template puts the special tokens.
        max_length: Most tokens; the longer text of a pair is cut first.
    """
    if not examples:
        return Encoded({"input_ids": []}, 0)
    texts = [example.text for example in examples]
    pairs = None
    if any(example.text_b is not None for example in examples):
        pairs = [example.text_b or "" for example in examples]
    arguments: dict[str, Any] = {"truncation": "longest_first", "max_length": max_length}
    # The library tells of a cut text only by its overflow, which costs as much as the text; ask the fast backend.
    encoded = tokenizer(texts, pairs, **arguments)
    cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return Encoded({name: list(encoded[name]) for name in encoded}, cut)
