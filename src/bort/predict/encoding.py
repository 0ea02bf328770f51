"""From texts, pairs and choices to padded batches of token ids: one way for every engine and for fine-tuning.

It needs the `tokenizers` library alone, so that an exported folder answers without torch and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.batches import attention_mask, stacked
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict import cutting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Feed = dict[str, NDArray[np.int64]]
"""A batch as a model takes it, by the names of its inputs. *Shape:* each (rows, length)."""


@dataclass(frozen=True)
class TokenizedExamples:
    """Examples as token ids.

    Args:
        columns: By input of the model (`input_ids`, and `token_type_ids` where the model knows kinds of tokens), a list
            of ids for each example, or for each choice of each example.
        cut: How many examples were longer than the limit and were cut.
        choices: How many choices each example has, one after another in the columns; 0 where it has none.
        windows: How many rows each text has, where long ones were cut into windows; empty where they were cut off.
    """

    columns: dict[str, list[list[int]]]
    cut: int
    choices: int = 0
    windows: tuple[int, ...] = ()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example, with choices those of its longest."""
        lengths = [len(ids) for ids in self.columns["input_ids"]]
        each = self.choices or 1
        return lengths if each == 1 else [max(lengths[i : i + each]) for i in range(0, len(lengths), each)]

    def __len__(self) -> int:
        return len(self.columns["input_ids"]) // (self.choices or 1)

    def joined(self, others: Sequence[TokenizedExamples]) -> TokenizedExamples:
        """These and others, one after another."""
        every = [self, *others]
        columns = {name: [row for one in every for row in one.columns[name]] for name in self.columns}
        return TokenizedExamples(columns, sum(one.cut for one in every), self.choices)

    def batch(self, indices: Sequence[int], pad_token_id: int, length: int = 0) -> Feed:
        """Pad some examples to the longest of them, or to `length` where that is more, and add their attention mask.

        *Shape:* each (batch, longest), or (batch, choices, longest), padded on the right.
        """
        each = self.choices or 1
        rows = [i * each + choice for i in indices for choice in range(each)]
        batch = {
            name: stacked([column[row] for row in rows], pad_token_id if name == "input_ids" else 0, length)
            for name, column in self.columns.items()
        }
        batch["attention_mask"] = attention_mask([len(self.columns["input_ids"][row]) for row in rows], length)
        if self.choices:
            batch = {name: values.reshape(len(indices), each, -1) for name, values in batch.items()}
        return batch


def tokenize(examples: Sequence[Example], backend: Any, *, types: bool, windows: bool = False) -> TokenizedExamples:
    """Tokenise on all cores, in the library's threads; the tokenizer is only read, so several threads may share it.

    Args:
        examples: Texts, or pairs. One whose second text is empty is a pair still; one without is not, whatever stands
            beside it. Or texts with choices, as many in each: a pair for each choice.
        backend: A `tokenizers.Tokenizer`, set up by `prepare`. Its template adds the special tokens.
        types: Whether the model takes `token_type_ids`.
        windows: Whether a single text that is too long becomes several rows instead of being cut off.

    Raises:
        BortError: Examples have different numbers of choices.
    """
    choices = len(examples[0].choices) if examples else 0
    texts: list[Any] = []
    for example in examples:
        if len(example.choices) != choices:
            rule = f"must have {choices} choices, as the first row has"
            raise BortError(rule, file=example.source or None, line=example.line, value=len(example.choices))
        if choices:
            texts += [(example.text, choice) for choice in example.choices]
        else:
            texts.append(example.text if example.text_b is None else (example.text, example.text_b))
    counts: tuple[int, ...] = ()
    if windows:
        cut_up = [cutting.windows(encoding) for encoding in backend.encode_batch_fast(texts)]
        counts, encodings = tuple(map(len, cut_up)), [window for of_text in cut_up for window in of_text]
    else:
        encodings = cutting.encode(texts, backend)
    columns = {"input_ids": [encoding.ids for encoding in encodings]}
    if types:
        columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
    cut = sum(count > 1 for count in counts) if windows else sum(bool(encoding.overflowing) for encoding in encodings)
    return TokenizedExamples(columns, cut, choices, counts)


def prompted(examples: Sequence[Example], prompt: str, *, lowercase: bool) -> list[Example]:
    """Texts as an encoder of sentence-transformers takes them: behind its prompt, without blanks at the ends.

    Raises:
        BortError: One is a pair, or has choices: a vector stands for one text.
    """
    texts = []
    for example in examples:
        if example.text_b is not None or example.choices:
            rule = "must be a single text: an encoder has no vector of a pair"
            raise BortError(rule, file=example.source or None, line=example.line)
        text = (prompt + example.text).strip()
        texts.append(Example(text.lower() if lowercase else text))
    return texts


def prepare(backend: Any, max_length: int, side: str = "right", *, split_special_tokens: bool = False) -> None:
    """Let a `tokenizers.Tokenizer` cut texts, of a pair the longer one first, and pad none.

    What is set already is not set again: another thread may be tokenising.

    Args:
        backend: The tokenizer.
        max_length: Most tokens, the special ones counted.
        side: Where a text is cut: "right" keeps its beginning, "left" its end.
        split_special_tokens: Whether a special token that a text spells out is text like any other.
    """
    wanted = {"max_length": max_length, "strategy": "longest_first", "direction": side, "stride": 0}
    if backend.truncation != wanted:
        backend.enable_truncation(max_length, strategy="longest_first", direction=side)
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != split_special_tokens:
        backend.encode_special_tokens = split_special_tokens


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int) -> TokenizedExamples:
    """Tokenise with a tokenizer of `transformers`, as its folder says: template, truncation side, kinds of tokens.

    Args:
        examples: As of `tokenize`.
        tokenizer: Fitted to its model, as `fitting_tokenizer` does.
        max_length: Most tokens.

    Raises:
        BortError: The tokenizer is one written in Python, or examples have different numbers of choices.
    """
    if not tokenizer.is_fast:
        raise BortError(
            "the tokenizer must be one of the tokenizers library (tokenizer.json)", value=tokenizer.name_or_path
        )
    backend, split = tokenizer.backend_tokenizer, bool(tokenizer.split_special_tokens)
    prepare(backend, max_length, tokenizer.truncation_side, split_special_tokens=split)
    return tokenize(examples, backend, types="token_type_ids" in tokenizer.model_input_names)
