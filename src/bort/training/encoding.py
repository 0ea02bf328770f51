"""Texts and pairs as padded batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bort.data.examples import Example
from bort.errors import BortError


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
        examples: Texts, or pairs. One whose second text is empty is a pair still; one without is not, whatever stands
            beside it.
        tokenizer: Its template puts the special tokens.
        max_length: Most tokens; the longer text of a pair is cut first.

    Raises:
        BortError: The tokenizer is one written in Python.
    """
    if not examples:
        return Encoded({"input_ids": []}, 0)
    if not tokenizer.is_fast:
        raise BortError(
            "the tokenizer must be one of the tokenizers library (tokenizer.json)", value=tokenizer.name_or_path
        )
    arguments: dict[str, Any] = {"truncation": "longest_first", "max_length": max_length}
    columns: dict[str, list[list[int]]] = {}
    cut = 0
    for second in (False, True):
        chosen = [index for index, example in enumerate(examples) if (example.text_b is not None) == second]
        if not chosen:
            continue
        texts, pairs = [examples[index].text for index in chosen], [examples[index].text_b for index in chosen]
        # The library tells of a cut text only by its overflow, which costs as much as the text; ask the fast backend.
        encoded = tokenizer(texts, pairs if second else None, **arguments)
        cut += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        for name in encoded:
            column = columns.setdefault(name, [[] for _ in examples])
            for index, ids in zip(chosen, encoded[name], strict=True):
                column[index] = ids
    return Encoded(columns, cut)
