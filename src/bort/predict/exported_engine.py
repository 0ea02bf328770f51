"""A folder of `bort export`, whatever runs it: neither torch nor transformers is loaded, nor any code that it holds."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.batches import token_budget_batches
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.manifest import Manifest

TOKENS_PER_BATCH = 512
"""Small batches of like length stay in the processor's caches."""
_ROWS_PER_BATCH = 64
Feed = dict[str, NDArray[np.int64]]
"""What a model takes, by the names of its inputs. *Shape:* each (rows, length)."""


@dataclass(frozen=True)
class EncodedTexts:
    """Tokenised examples.

    Args:
        ids: Of each example, or of each choice of each example.
        types: Kinds of the tokens; empty where the model knows none.
        cut: How many were longer than the limit.
        choices: Of each example; 0 where it has none.
    """

    ids: list[list[int]]
    types: list[list[int]]
    cut: int
    choices: int = 0

    def __len__(self) -> int:
        return len(self.ids) // (self.choices or 1)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self.ids]

    def joined(self, others: Sequence[EncodedTexts]) -> EncodedTexts:
        """These and others, one after another."""
        every = [self, *others]
        ids = [row for one in every for row in one.ids]
        types = [row for one in every for row in one.types]
        return EncodedTexts(ids, types, sum(one.cut for one in every), self.choices)


class _Meanwhile(Thread):
    """A call in another thread, begun at once."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=False)  # Python's end waits for it: it may be inside a library that cannot be left
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """What the thread does."""
        try:
            self._call()
        except BaseException as error:  # raised where it is waited for
            self.error = error


class ExportedEngine(ABC):
    """A model of `bort export`; one `run` at a time.

    Args:
        folder: What `bort export` wrote.
        manifest: Of that folder.
        threads: Of the computation; by default one a core.

    Raises:
        BortError: A file is not what was exported, or the engine is not installed.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        self.manifest, self.folder, self.threads = manifest, folder, threads
        self.task, self.max_length, self.cast = manifest.task, manifest.max_length, manifest.cast
        self.thresholds = manifest.thresholds
        if threads is not None:
            os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # read once, by the first tokenizer at work
        loading = _Meanwhile(self._check_and_load)
        try:
            self._tokenizer = self._open_tokenizer()
        finally:
            loading.join()
            if loading.error is not None:  # it says more than what a damaged tokenizer does
                raise loading.error from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length, strategy="longest_first")
        self._takes_types = "token_type_ids" in manifest.inputs

    def _open_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_buffer(self.manifest.checked(self.folder, self.manifest.tokenizer))
        except BortError:
            raise
        except Exception as error:  # the library has no class of its own
            file = self.folder / self.manifest.tokenizer
            raise BortError(f"is no tokenizer: {str(error)[:200]}", file=file) from None

    def _check_and_load(self) -> None:
        self.manifest.check(self.folder)
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Load the model, whose files are what was exported; called once, maybe in another thread.

        Raises:
            BortError: It cannot be loaded, or the engine is not installed.
        """

    @abstractmethod
    def compute(self, feed: Feed) -> NDArray[np.float32]:
        """The outputs of one batch. *Shape:* (rows, outputs)."""

    def compute_all(self, feeds: Sequence[Feed]) -> Iterator[NDArray[np.float32]]:
        """The outputs of several batches, in order."""
        yield from map(self.compute, feeds)

    def encode(self, examples: Sequence[Example]) -> EncodedTexts:
        """Tokenise; many at once in the library's threads, which leave Python free.

        Raises:
            BortError: The examples have different numbers of choices.
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
        if len(texts) == 1:
            only = texts[0]
            encodings = [self._tokenizer.encode(*only) if isinstance(only, tuple) else self._tokenizer.encode(only)]
        else:
            encodings = self._tokenizer.encode_batch_fast(texts)
        types = [encoding.type_ids for encoding in encodings] if self._takes_types else []
        cut = sum(bool(encoding.overflowing) for encoding in encodings)
        return EncodedTexts([encoding.ids for encoding in encodings], types, cut, choices)

    def run(self, encoded: EncodedTexts) -> NDArray[np.float32]:
        """Raw outputs, computed in batches of like length. *Shape:* (examples, outputs), or (examples, choices)."""
        rows = len(encoded.ids)
        if rows == 1:
            logits = self.compute(self.feed(encoded, [0]))
        else:
            logits = np.empty((rows, 1 if self.task.choices else self.task.outputs), np.float32)
            lengths = [len(ids) for ids in encoded.ids]
            batches = token_budget_batches(lengths, max_tokens=TOKENS_PER_BATCH, max_rows=_ROWS_PER_BATCH)
            feeds = [self.feed(encoded, indices) for indices in batches]
            for indices, found in zip(batches, self.compute_all(feeds), strict=True):
                logits[indices] = found
        return logits.reshape(-1, encoded.choices) if encoded.choices else logits

    def feed(self, encoded: EncodedTexts, indices: Sequence[int]) -> Feed:
        """Pad some rows to the longest of them. *Shape:* each (rows, longest)."""
        longest = max(len(encoded.ids[index]) for index in indices)
        shape = (len(indices), longest)
        ids, mask = np.full(shape, self.manifest.pad_token_id, np.int64), np.zeros(shape, np.int64)
        fed = {"input_ids": ids, "attention_mask": mask}
        if self._takes_types:
            fed["token_type_ids"] = np.zeros(shape, np.int64)
        for row, index in enumerate(indices):
            length = len(encoded.ids[index])
            ids[row, :length] = encoded.ids[index]
            mask[row, :length] = 1
            if self._takes_types:
                fed["token_type_ids"][row, :length] = encoded.types[index]
        return fed
