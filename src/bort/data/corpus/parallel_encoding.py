"""Encodes blocks of text as token ids, in this process or in several worker processes."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.child_processes import follow_parent, without_ctrl_c
from bort.data.corpus.text_blocks import Block, Interrupted
from bort.data.tables.lines import Lines
from bort.errors import BortError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH_CHARACTERS, _BATCH_PARAGRAPHS = 1 << 18, 1024
_AHEAD = 2
"""Blocks per process that may be read or encoded but not yet written."""


@dataclass(frozen=True)
class EncodedBlock:
    """A block of text as token ids.

    Args:
        ids: Ids of all paragraphs, with an end mark after each document that ends in the block. *Shape:* (tokens,).
        starts: Start of each document in `ids`; the first may continue the last document of the previous block.
        ends_before: Whether a blank line precedes any text, which ends the last document of the previous block.
        open: Whether the last document continues in the next block.
    """

    ids: NDArray[np.unsignedinteger[Any]]
    starts: NDArray[np.int64]
    ends_before: bool
    open: bool


class BlockEncoder:
    """Encodes blocks paragraph by paragraph.

    Args:
        state: The tokenizer as JSON.
        end_id: Id of the token that ends a document.
        dtype: Type of the ids.
    """

    def __init__(self, state: str, end_id: int, dtype: str) -> None:
        from tokenizers import Tokenizer

        self.backend: Tokenizer = Tokenizer.from_str(state)
        self.backend.no_truncation()
        self.backend.no_padding()
        self.end, self.dtype = np.array([end_id], dtype), dtype

    def __call__(self, text: bytes, first: int, source: str) -> EncodedBlock:
        """Encode a block.

        Args:
            text: Whole lines.
            first: Number of the first line.
            source: Name of the source, for error messages.

        Raises:
            BortError: The text is not UTF-8.
        """
        lines = Lines(io.BytesIO(text), source, keep_nul=True)
        lines.number = first - 1
        parts: list[NDArray[Any]] = []
        starts: list[int] = []
        size, ends_before, is_open = 0, False, False
        for ids in self._paragraphs(lines.one_by_one()):
            if ids is None:
                ends_before = ends_before or not starts
                ids = self.end if is_open else self.end[:0]
                is_open = False
            elif not is_open:
                starts.append(size)
                is_open = True
            parts.append(ids)
            size += len(ids)
        whole = np.concatenate(parts) if parts else self.end[:0]
        return EncodedBlock(whole, np.array(starts, np.int64), ends_before, is_open)

    def _paragraphs(self, lines: Iterable[str]) -> Iterator[NDArray[Any] | None]:
        """Yield the ids of each paragraph, None for a blank line; batches are small, as encodings take much memory."""
        batch: list[str | None] = []
        characters = 0
        for line in lines:
            text = line.removesuffix("\n").removesuffix("\r")
            batch.append(text if text.strip() else None)
            characters += len(text)
            if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_PARAGRAPHS:
                yield from self._encoded(batch)
                batch, characters = [], 0
        yield from self._encoded(batch)

    def _encoded(self, batch: list[str | None]) -> Iterator[NDArray[Any] | None]:
        texts = [text for text in batch if text is not None]
        encoded = iter(self.backend.encode_batch_fast(texts, add_special_tokens=False))
        for text in batch:
            yield None if text is None else np.array(next(encoded).ids, self.dtype)


def encode_all(
    blocks: Iterable[Block], source: str, encoder: BlockEncoder, *, processes: int = 1
) -> Iterator[tuple[Block, EncodedBlock]]:
    """Encode blocks and yield them in order, whatever the number of processes.

    Args:
        blocks: Blocks of one source; with several processes, reading runs a few blocks ahead.
        source: Name of the source, for error messages.
        encoder: The encoder; each worker process gets a copy.
        processes: Number of processes; 1 encodes in this process and starts no other.

    Raises:
        BortError: The first error of reading or encoding, in the order of the text.
        Interrupted: A worker process died.
    """
    if processes == 1:
        for block in blocks:
            yield block, encoder(block.text, block.first, source)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (encoder,))
    waiting: deque[tuple[Block, Future[EncodedBlock]]] = deque()
    left, failure = iter(blocks), None
    line = 1
    try:
        while True:
            while failure is None and len(waiting) < _AHEAD * processes:
                try:
                    block = next(left)
                except StopIteration:
                    break
                except BortError as error:
                    failure = error  # yield the blocks read before it first
                    break
                line = block.first
                with _no_script(), without_ctrl_c():
                    waiting.append((block, pool.submit(_encode, block.text, block.first, source)))
            if not waiting:
                break
            block, result = waiting.popleft()
            line = block.first
            yield block, result.result()
    except BrokenProcessPool:
        rule = "a process that tokenises has died; the same command goes on, perhaps with fewer --corpus-processes"
        raise Interrupted(rule, file=source, line=line) from None
    finally:
        pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """Hide the running script from processes that start within the block.

    A spawned process imports its parent's script, which would run again in full unless it has a `__main__` guard. The
    workers need nothing from it.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


_encoder: BlockEncoder | None = None
"""The encoder of this process, if it is a pool worker."""


def _begin(encoder: BlockEncoder) -> None:
    """Initialise a pool worker: it uses one core, leaves Ctrl-C to its parent, and exits when the parent does."""
    global _encoder
    _encoder = encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    follow_parent()


def _encode(text: bytes, first: int, source: str) -> EncodedBlock:
    assert _encoder is not None
    return _encoder(text, first, source)
