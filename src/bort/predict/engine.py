"""The interface of engines, which compute raw outputs from tokens, and functions that open a model's engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bort.cores import usable_cores
from bort.data.tables.examples import Example
from bort.errors import BortError, packages_installed
from bort.files import with_home
from bort.model.checkpoints import is_encoder
from bort.predict.encoding import TokenizedExamples
from bort.predict.exported_engine import ExportedEngine
from bort.predict.manifest import is_exported, read_manifest
from bort.tasks.suites.task_entry import Cast
from bort.tasks.task import Task

_MOST_THREADS_A_CORE = 4


class Engine(Protocol):
    """A loaded model. Any number of threads may call `encode` and `run` in parallel."""

    max_length: int
    """Maximum number of tokens of an input."""
    rows_at_once: int
    """Number of examples per call of `start` that keeps all threads busy."""
    cast: Cast | None
    """How the rows of the suite task that the model was fine-tuned on were cast, if it was."""
    pairs: bool | None
    """Whether the model was fine-tuned on pairs of texts; None if unknown."""
    thresholds: Mapping[str, float]
    """By label, the probability that an answer must exceed; labels without an entry have no threshold."""

    @property
    def task(self) -> Task:
        """The model's task.

        Raises:
            BortError: The model is an encoder.
        """

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise; with `windows`, split single texts that are too long into several rows.

        Raises:
            BortError: The examples have different numbers of choices.
        """

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs), or (examples, choices)."""

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Start computing, in the background if possible; the returned function waits for the result of `run`."""


class VectorEngine(Protocol):
    """A loaded encoder. Any number of threads may call `encode` and `run` in parallel."""

    max_length: int
    """Maximum number of tokens of a text."""
    rows_at_once: int
    """Number of texts per call of `start` that keeps all threads busy."""

    @property
    def size(self) -> int:
        """Width of a vector.

        Raises:
            BortError: The model is not an encoder.
        """

    @property
    def pooling(self) -> str:
        """How token vectors are pooled, as named by sentence-transformers."""

    @property
    def normalizes(self) -> bool:
        """Whether vectors are scaled to length 1 by default."""

    def encode(self, examples: Sequence[Example]) -> TokenizedExamples:
        """Tokenise.

        Raises:
            BortError: An example is a pair.
        """

    def whole_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Number of tokens that texts have before they are truncated, with special tokens.

        Raises:
            BortError: An example is a pair.
        """

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Vectors, before any final normalisation. *Shape:* (texts, width)."""

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Start computing, in the background if possible; the returned function waits for the result of `run`."""


def run_blocks(
    engine: Engine | VectorEngine,
    blocks: Iterable[Sequence[Example]],
    encode: Callable[[Sequence[Example]], TokenizedExamples],
) -> Iterator[tuple[TokenizedExamples, NDArray[np.float32]]]:
    """Run blocks in order: the next block is tokenised and started before waiting for the previous one.

    So no thread idles between two blocks. At most four blocks are held in memory.

    Args:
        engine: Runs the blocks.
        blocks: Blocks of examples, read lazily.
        encode: Tokenises a block.

    Yields:
        The tokens and the raw outputs of each block.
    """
    from concurrent.futures import ThreadPoolExecutor  # not needed for a single text

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
    """Whether a model is an encoder, exported or not, without a task.

    Raises:
        BortError: The model cannot be found or read.
    """
    if is_exported(model):
        return read_manifest(model).task is None
    with packages_installed(model):
        return is_encoder(model)


def open_vector_engine(model: str, threads: int | None = None) -> VectorEngine:
    """Load an encoder: an exported folder, an embedded encoder, or any that PyTorch can run.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        threads: Threads for the computation and the tokenizer; by default one per core.

    Raises:
        BortError: The model cannot be loaded, or `threads` is below 1.
    """
    threads = bounded_threads(threads)
    model = with_home(model)
    if is_exported(model):
        return open_exported(model, threads)
    with packages_installed(model):
        from bort.predict.plain_encoder import open_plain_encoder

        if (plain := open_plain_encoder(model, threads)) is not None:
            return plain
        from bort.predict.torch_encoder import TorchEncoder

        return TorchEncoder(model, threads=threads)


def open_engine(model: str, threads: int | None = None) -> Engine:
    """Load a classifier or regressor: an exported folder, one of `bort finetune`, or any that PyTorch can run.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        threads: Threads for the computation and the tokenizer; by default one per core.

    Raises:
        BortError: The model cannot be loaded, it is not a classifier, or `threads` is below 1.
    """
    threads = bounded_threads(threads)
    model = with_home(model)
    if is_exported(model):
        return open_exported(model, threads)
    with packages_installed(model):
        from bort.predict.plain_engine import open_plain

        if (plain := open_plain(model, threads)) is not None:
            return plain
        from bort.predict.torch_engine import TorchEngine

        return TorchEngine(model, threads)


def open_exported(folder: str | Path, threads: int | None = None, *, weight_bits: int | None = None) -> ExportedEngine:
    """Load a folder of `bort export`.

    Args:
        folder: The folder.
        threads: Threads for the computation and the tokenizer; by default one per core.
        weight_bits: Bits of int8 weights, 7 or 8; by default the most that this processor multiplies exactly.

    Raises:
        BortError: A file has changed since the export, or its engine is not installed.
    """
    with packages_installed(folder):
        # Absolute, since parts of it are loaded later, when the working folder may be another.
        folder = Path(folder).absolute()
        return ExportedEngine(folder, read_manifest(folder), threads, weight_bits=weight_bits)


def bounded_threads(threads: int | None) -> int | None:
    """The number of threads, at most a few per core: hundreds would wait for each other, for minutes.

    Raises:
        BortError: It is below 1.
    """
    if threads is None:
        return None
    if threads < 1:
        raise BortError("must be at least 1", setting="threads", value=threads)
    return min(threads, _MOST_THREADS_A_CORE * usable_cores())
