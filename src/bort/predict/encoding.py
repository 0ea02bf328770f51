"""Texts and pairs as padded batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bort.data.tables.examples import Example
from bort.errors import BortError


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples. `columns` maps each input of the model to a list of ids for each example, or for each choice
    of each example."""

    columns: dict[str, list[list[int]]]
    cut: int
    """How many examples were longer than the limit and lost their end."""
    choices: int = 0
    """How many choices each example has, one after another in the columns; 0 where it has none."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example, with choices those of its longest."""
        lengths = [len(ids) for ids in self.columns["input_ids"]]
        each = self.choices or 1
        return lengths if each == 1 else [max(lengths[i : i + each]) for i in range(0, len(lengths), each)]

    def __len__(self) -> int:
        return len(self.columns["input_ids"]) // (self.choices or 1)

    def joined(self, others: Sequence[Encoded]) -> Encoded:
        """These and others, one after another."""
        every = [self, *others]
        columns = {name: [row for one in every for row in one.columns[name]] for name in self.columns}
        return Encoded(columns, sum(one.cut for one in every), self.choices)

    def batch(self, indices: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
        """Pad some examples to the longest of them. *Shape:* each (batch, longest), or (batch, choices, longest)."""
        each = self.choices or 1
        places = [i * each + choice for i in indices for choice in range(each)]
        longest = max(len(self.columns["input_ids"][i]) for i in places)
        out = {}
        for name, column in self.columns.items():
            pad = pad_token_id if name == "input_ids" else 0
            rows = [column[i] + [pad] * (longest - len(column[i])) for i in places]
            tensor = torch.tensor(rows, dtype=torch.long)
            out[name] = tensor.view(len(indices), each, longest) if self.choices else tensor
        return out


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int) -> Encoded:
    """Tokenise on all cores, in the library's threads.

    Args:
        examples: Texts, or pairs. One whose second text is empty is a pair still; one without is not, whatever stands
            beside it. Or texts with choices, as many in each: a pair for each choice.
        tokenizer: Its template puts the special tokens.
        max_length: Most tokens; the longer text of a pair is cut first.

    Raises:
        BortError: The tokenizer is one written in Python, or examples have different numbers of choices.
    """
    if not examples:
        return Encoded({"input_ids": []}, 0)
    if choices := len(examples[0].choices):
        for example in examples:
            if len(example.choices) != choices:
                rule = f"must have {choices} choices, as the first row has"
                raise BortError(rule, file=example.source or None, line=example.line, value=len(example.choices))
        pairs_of_all = [Example(example.text, choice) for example in examples for choice in example.choices]
        encoded_pairs = encode(pairs_of_all, tokenizer, max_length)
        return Encoded(encoded_pairs.columns, encoded_pairs.cut, choices)
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
