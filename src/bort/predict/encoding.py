"""Turn texts, pairs and choices into padded batches of token ids, for all engines and for fine-tuning.

Needs only the `tokenizers` library, so that exported folders run without torch and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.batches import attention_mask, stacked
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.text_slices import text_slices
from bort.predict import cutting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Feed = dict[str, NDArray[np.int64]]
"""A batch by the names of the model's inputs. *Shape:* each (rows, length)."""


@dataclass(frozen=True)
class TokenizedExamples:
    """Examples as token ids.

    Args:
        columns: By input of the model (`input_ids`, and `token_type_ids` if the model takes them), a list of ids for
            each example, or for each choice of each example.
        choices: Number of choices per example, which are consecutive in the columns; 0 for examples without choices.
        windows: Number of rows per text, if long texts were split into windows; empty if they were truncated.
        cut_places: Places of the examples that were longer than the limit and were cut or split, ascending.
    """

    columns: dict[str, list[list[int]]]
    choices: int = 0
    windows: tuple[int, ...] = ()
    cut_places: tuple[int, ...] = ()

    @property
    def cut(self) -> int:
        """Number of examples that were cut; one with choices counts once."""
        return len(self.cut_places)

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each example; with choices, of its longest choice."""
        lengths = [len(ids) for ids in self.columns["input_ids"]]
        each = self.choices or 1
        return lengths if each == 1 else [max(lengths[i : i + each]) for i in range(0, len(lengths), each)]

    def __len__(self) -> int:
        return len(self.columns["input_ids"]) // (self.choices or 1)

    def joined(self, others: Sequence[TokenizedExamples]) -> TokenizedExamples:
        """Concatenate with others."""
        every = [self, *others]
        columns = {name: [row for one in every for row in one.columns[name]] for name in self.columns}
        starts = accumulate(map(len, every), initial=0)
        places = tuple(start + place for start, one in zip(starts, every, strict=False) for place in one.cut_places)
        return TokenizedExamples(columns, self.choices, cut_places=places)

    def batch(self, indices: Sequence[int], pad_token_id: int, length: int = 0) -> Feed:
        """Pad examples to the longest of them, or to `length` if that is more, and add the attention mask.

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
    """Tokenise on all cores, in the library's threads; the tokenizer is not modified, so several threads may share it.

    Args:
        examples: Texts and pairs, which may be mixed; an empty second text still makes a pair. Or texts that all have
            the same number of choices: each choice becomes a pair.
        backend: A `tokenizers.Tokenizer`, set up by `prepare`. Its template adds the special tokens.
        types: Whether the model takes `token_type_ids`.
        windows: Whether a single text that is too long is split into several rows instead of being truncated.

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
    ids: list[list[int]] = []
    type_ids: list[list[int]] = []
    counts: list[int] = []
    cut: list[bool] = []
    for rows in _windowed(texts, backend) if windows else ([one] for one in cutting.encode(texts, backend)):
        # An encoding takes several times the memory of its ids, so none is kept.
        ids += [row.ids for row in rows]
        if types:
            type_ids += [row.type_ids for row in rows]
        counts.append(len(rows))
        cut.append(bool(rows[0].overflowing))  # also if its last window is too short and left out
    columns = {"input_ids": ids, "token_type_ids": type_ids} if types else {"input_ids": ids}
    each = choices or 1
    places = tuple(place for place in range(len(examples)) if any(cut[place * each : (place + 1) * each]))
    return TokenizedExamples(columns, choices, tuple(counts) if windows else (), places)


def _windowed(texts: Sequence[Any], backend: Any) -> Iterator[list[Any]]:
    """The encodings of each text's windows."""
    for part in text_slices(texts):
        yield from map(cutting.windows, backend.encode_batch_fast(part))


def whole_lengths(examples: Sequence[Example], backend: Any) -> list[int]:
    """Number of tokens that single texts have before they are truncated, with their special tokens.

    The tokenizer is not modified: the tokens that it cuts off a text are counted, too.

    Args:
        examples: Single texts.
        backend: See `tokenize`.
    """
    special = backend.num_special_tokens_to_add(is_pair=False)
    return [
        special + sum(len(part) - special for part in (encoding, *encoding.overflowing))
        for texts in text_slices(example.text for example in examples)
        for encoding in backend.encode_batch_fast(texts)
    ]


def prompted(examples: Sequence[Example], prompt: str) -> list[Example]:
    """Prepend the prompt to texts.

    Raises:
        BortError: An example is a pair or has choices: a vector stands for one text.
    """
    texts = []
    for example in examples:
        if example.text_b is not None or example.choices:
            rule = "must be a single text: an encoder has no vector of a pair"
            raise BortError(rule, file=example.source or None, line=example.line)
        texts.append(Example(prompt + example.text))
    return texts


def lowercase_first(backend: Any) -> None:
    """Make a `tokenizers.Tokenizer` lowercase texts like sentence-transformers: special tokens in a text stay."""
    from tokenizers import normalizers

    own = backend.normalizer
    parts = [] if own is None else [own]
    if isinstance(own, normalizers.Sequence):
        parts = list(own)  # type: ignore[call-overload]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


def prepare(backend: Any, max_length: int, side: str = "right", *, split_special_tokens: bool = False) -> None:
    """Set a `tokenizers.Tokenizer` to truncate inputs, in a pair the longer text first, and not to pad.

    Settings that are already right are not touched: another thread may be tokenising.

    Args:
        backend: The tokenizer.
        max_length: Maximum number of tokens, including special tokens.
        side: Side that is cut off: "right" keeps the beginning of a text, "left" its end.
        split_special_tokens: Whether a special token written in a text is treated as ordinary text.
    """
    wanted = {"max_length": max_length, "strategy": "longest_first", "direction": side, "stride": 0}
    if backend.truncation != wanted:
        backend.enable_truncation(max_length, strategy="longest_first", direction=side)
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != split_special_tokens:
        backend.encode_special_tokens = split_special_tokens


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int) -> TokenizedExamples:
    """Tokenise with a tokenizer of `transformers` and its settings: template, truncation side, token types.

    Args:
        examples: See `tokenize`.
        tokenizer: As returned by `fitting_tokenizer`.
        max_length: Maximum number of tokens.

    Raises:
        BortError: The tokenizer is a slow one (in Python), or examples have different numbers of choices.
    """
    if not tokenizer.is_fast:
        raise BortError(
            "the tokenizer must be one of the tokenizers library (tokenizer.json)", value=tokenizer.name_or_path
        )
    backend, split = tokenizer.backend_tokenizer, bool(tokenizer.split_special_tokens)
    prepare(backend, max_length, tokenizer.truncation_side, split_special_tokens=split)
    return tokenize(examples, backend, types="token_type_ids" in tokenizer.model_input_names)
