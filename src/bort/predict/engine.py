"""What runs a model, whatever it runs on: tokens in, raw outputs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.checkpoints import is_encoder
from bort.predict.encoding import TokenizedExamples
from bort.predict.exported_engine import ExportedEngine
from bort.predict.manifest import is_exported, read_manifest
from bort.tasks.suites.task_entry import Cast
from bort.tasks.task import Task


class Engine(Protocol):
    """A loaded model. Any number of threads may call `encode` and `run` at once."""

    max_length: int
    """Most tokens of an input."""
    rows_at_once: int
    """Examples to `start` together, enough for all threads."""
    cast: Cast | None
    """How the rows of a suite's task were cast that the model was fitted to, if it was."""
    pairs: bool | None
    """Whether the model was fine-tuned on pairs of texts; None where nobody knows."""
    thresholds: Mapping[str, float]
    """Probabilities of labels that an answer must lie above; a label without one has none."""

    @property
    def task(self) -> Task:
        """What it answers.

        Raises:
            BortError: It is an encoder.
        """

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise; with `windows` a single text that is too long becomes several rows.

        Raises:
            BortError: The examples have different numbers of choices.
        """

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs), or (examples, choices)."""

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Begin to compute, where that can be done meanwhile; what is returned waits, and gives what `run` gives."""


class VectorEngine(Protocol):
    """A loaded encoder. Any number of threads may call `encode` and `run` at once."""

    max_length: int
    """Most tokens of a text."""
    rows_at_once: int
    """Texts to `start` together, enough for all threads."""

    @property
    def size(self) -> int:
        """Width of a vector.

        Raises:
            BortError: It is no encoder.
        """

    @property
    def pooling(self) -> str:
        """How the vectors of tokens become one, by the names of sentence-transformers."""

    @property
    def normalizes(self) -> bool:
        """Whether vectors are scaled to length 1 unless something else is asked for."""

    def encode(self, examples: Sequence[Example]) -> TokenizedExamples:
        """Tokenise.

        Raises:
            BortError: One of the examples is a pair.
        """

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Vectors, not scaled at the end. *Shape:* (texts, width)."""

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Begin to compute, where that can be done meanwhile; what is returned waits, and gives what `run` gives."""


def run_blocks(
    engine: Engine | VectorEngine,
    blocks: Iterable[Sequence[Example]],
    encode: Callable[[Sequence[Example]], TokenizedExamples],
) -> Iterator[tuple[TokenizedExamples, NDArray[np.float32]]]:
    """Run one block after another: the next is tokenised and begun before the last is waited for.

    So no thread stands idle between two blocks. Four of them are held at most.

    Args:
        engine: What runs them.
        blocks: Read as they are needed.
        encode: Tokenises one.

    Yields:
        The tokens of each block, and its raw outputs.
    """
    from concurrent.futures import ThreadPoolExecutor  # a single text does without

    iterator = iter(blocks)
    begun: deque[tuple[TokenizedExamples, Callable[[], NDArray[np.float32]]]] = deque()
    with ThreadPoolExecutor(1) as ahead:
        first = next(iterator, None)
        waiting = None if first is None else ahead.submit(encode, first)
        while waiting is not None:
            encoded = waiting.result()
            following = next(iterator, None)
            waiting = None if following is None else ahead.submit(encode, following)
            begun.append((encoded, engine.start(encoded)))
            if len(begun) > 1:
                encoded, finish = begun.popleft()
                yield encoded, finish()
        for encoded, finish in begun:
            yield encoded, finish()


def gives_vectors(model: str) -> bool:
    """Whether a model is an encoder, exported or not, and answers nothing.

    Raises:
        BortError: It cannot be found or read.
    """
    if is_exported(model):
        return read_manifest(model).task is None
    return is_encoder(model)


def open_vector_engine(model: str, threads: int | None = None) -> VectorEngine:
    """Load an encoder: an exported folder, an embedded one, or anything that PyTorch can run.

    Args:
        model: A folder, an embedded name, or a hub name.
        threads: Of the computation and the tokenizer; by default one a core.

    Raises:
        BortError: The model cannot be loaded, or `threads` is below 1.
    """
    _check_threads(threads)
    if is_exported(model):
        return open_exported(model, threads)
    from bort.predict.plain_encoder import open_plain_encoder

    if (plain := open_plain_encoder(model, threads)) is not None:
        return plain
    from bort.predict.torch_encoder import TorchEncoder

    return TorchEncoder(model, threads=threads)


def open_engine(model: str, threads: int | None = None) -> Engine:
    """Load a model: an exported folder, one of `bort finetune`, or anything that PyTorch can run.

    Args:
        model: A folder, an embedded name, or a hub name.
        threads: Of the computation and the tokenizer; by default one a core.

    Raises:
        BortError: The model cannot be loaded, it is no classifier, or `threads` is below 1.
    """
    _check_threads(threads)
    if is_exported(model):
        return open_exported(model, threads)
    from bort.predict.plain_engine import open_plain

    if (plain := open_plain(model, threads)) is not None:
        return plain
    from bort.predict.torch_engine import TorchEngine

    return TorchEngine(model, threads)


def open_exported(folder: str | Path, threads: int | None = None, *, weight_bits: int | None = None) -> ExportedEngine:
    """Load a folder of `bort export`.

    Args:
        folder: The folder.
        threads: Of the computation and the tokenizer; by default one a core.
        weight_bits: Of int8 weights, 7 or 8; by default what this processor multiplies exactly.

    Raises:
        BortError: A file is not what was exported, or its engine is not installed.
    """
    return ExportedEngine(Path(folder), read_manifest(folder), threads, weight_bits=weight_bits)


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise BortError("must be at least 1", setting="threads", value=threads)
