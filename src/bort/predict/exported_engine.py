"""A folder of `bort export`, whatever runs it: neither torch nor transformers is loaded, nor any code that it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.cores import limit_threads
from bort.data.batches import token_budget_batches
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.tokenization import panics_are_errors, try_out
from bort.predict.encoding import Feed, TokenizedExamples, prepare, prompted, tokenize
from bort.predict.manifest import EncoderSpec, Manifest
from bort.tasks.task import Task

TOKENS_PER_BATCH = 512
"""Small batches of like length stay in the processor's caches."""
_ROWS_PER_BATCH = 64


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
    """A model of `bort export`; several threads may share it.

    In int8 rounding would carry the least difference in an input's surroundings into its answer. So rows go together
    only where they are equally long, and need no padding. Where scales are taken from what is computed ("dynamic"),
    each row is computed alone.

    Args:
        folder: What `bort export` wrote.
        manifest: Of that folder.
        threads: Of the computation and the tokenizer; by default one a core.

    Raises:
        BortError: A file is not what was exported, or the engine is not installed.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        self.manifest, self.folder, self.threads = manifest, folder, threads
        self.max_length, self.cast = manifest.max_length, manifest.cast
        self.outputs = manifest.outputs
        self.pairs, self.thresholds = manifest.pairs, manifest.thresholds
        if threads is not None:
            limit_threads(threads)
        loading = _Meanwhile(self._check_and_load)
        try:
            self._tokenizer = self._open_tokenizer()
        finally:
            loading.join()
            if loading.error is not None:  # it says more than what a damaged tokenizer does
                raise loading.error from None
        split = manifest.split_special_tokens
        prepare(self._tokenizer, self.max_length, manifest.truncation_side, split_special_tokens=split)
        self._takes_types = "token_type_ids" in manifest.inputs

    @property
    def task(self) -> Task:
        """What the model answers.

        Raises:
            BortError: It is an encoder.
        """
        if self.manifest.task is None:
            rule = "is an encoder: it gives vectors (bort embed) and no answers; fine-tune what it was exported from"
            raise BortError(rule, file=self.folder)
        return self.manifest.task

    @property
    def spec(self) -> EncoderSpec:
        """How the model makes a vector.

        Raises:
            BortError: It is no encoder.
        """
        if self.manifest.encoder is None:
            raise BortError("is an exported classifier or regressor, and gives no vectors", file=self.folder)
        return self.manifest.encoder

    @property
    def size(self) -> int:
        """Width of an encoder's vector."""
        return self.spec.size

    @property
    def pooling(self) -> str:
        """How an encoder makes one vector of its tokens'."""
        return self.spec.pooling

    @property
    def normalizes(self) -> bool:
        """Whether an encoder's vectors are scaled to length 1 unless something else is asked for."""
        return self.spec.normalizes

    def _open_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            with panics_are_errors():
                tokenizer = Tokenizer.from_buffer(self.manifest.checked(self.folder, self.manifest.tokenizer))
            try_out(tokenizer)
            return tokenizer
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
    def compute(self, batch: Feed) -> NDArray[np.float32]:
        """The outputs of one batch, whose inputs are of *shape* (rows, length). *Shape:* (rows, outputs)."""

    def compute_all(self, batches: Sequence[Feed]) -> Iterator[NDArray[np.float32]]:
        """The outputs of several batches, in order."""
        yield from map(self.compute, batches)

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise; many at once in the library's threads, which leave Python free.

        Raises:
            BortError: The examples have different numbers of choices, or an encoder is given a pair.
        """
        if (spec := self.manifest.encoder) is not None:
            examples = prompted(examples, spec.prompt, lowercase=spec.lowercase)
        return tokenize(examples, self._tokenizer, types=self._takes_types, windows=windows)

    def batch(self, encoded: TokenizedExamples, indices: Sequence[int]) -> Feed:
        """Some examples as the model takes them, each choice a row. *Shape:* each (rows, longest)."""
        batch = encoded.batch(indices, self.manifest.pad_token_id)
        return {name: values.reshape(-1, values.shape[-1]) for name, values in batch.items()}

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs, computed in batches of like length. *Shape:* (examples, outputs), or (examples, choices)."""
        rows = TokenizedExamples(encoded.columns, encoded.cut)  # a model that chooses scores one choice a row
        outputs = np.empty((len(rows), self.outputs), np.float32)
        batches = token_budget_batches(
            rows.lengths,
            max_tokens=TOKENS_PER_BATCH,
            max_rows=1 if self.manifest.activations == "dynamic" else _ROWS_PER_BATCH,
            equal_lengths=self.manifest.precision == "int8",
        )
        fed = [self.batch(rows, indices) for indices in batches]
        for indices, found in zip(batches, self.compute_all(fed), strict=True):
            outputs[indices] = found
        return outputs.reshape(-1, encoded.choices) if encoded.choices else outputs
