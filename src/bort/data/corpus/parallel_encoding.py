"""Blocks of text to token ids, in this process or in several beside it.

A process beside this one is a Python that reads blocks from its standard input and writes ids to its standard output,
as plain bytes. It ends when its input does, so none outlives a driver that is killed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.text_blocks import Block, Interrupted
from bort.data.tables.lines import Lines
from bort.errors import BortError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH_CHARACTERS, _BATCH_PARAGRAPHS = 1 << 18, 1024
_HEAD = struct.Struct("<QQ")
_AHEAD = 2
_PROGRAM = "from bort.data.corpus.parallel_encoding import serve; serve()"


@dataclass(frozen=True)
class Encoded:
    """A block as ids.

    Args:
        ids: Of all its paragraphs, with the end mark after each document that ends in the block. *Shape:* (tokens,).
        starts: Where each document's ids begin, counting what comes first, which may go on from the block before.
        ends_before: Whether a blank line comes before any text, so that a document of the block before ends there.
        open: Whether the last document goes on in the next block.
    """

    ids: NDArray[np.unsignedinteger[Any]]
    starts: NDArray[np.int64]
    ends_before: bool
    open: bool


class Encoder:
    """Turns blocks into ids, paragraph by paragraph.

    Args:
        state: The tokenizer as JSON.
        end_id: Ends a document.
        dtype: Of ids.
    """

    def __init__(self, state: str, end_id: int, dtype: str) -> None:
        from tokenizers import Tokenizer

        self.backend: Tokenizer = Tokenizer.from_str(state)
        self.backend.no_truncation()
        self.backend.no_padding()
        self.end, self.dtype = np.array([end_id], dtype), dtype

    def __call__(self, text: bytes, first: int, source: str) -> Encoded:
        """Encode a block.

        Args:
            text: Whole lines.
            first: The number of the first.
            source: For messages.

        Raises:
            BortError: Not UTF-8.
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
        return Encoded(whole, np.array(starts, np.int64), ends_before, is_open)

    def _paragraphs(self, lines: Iterable[str]) -> Iterator[NDArray[Any] | None]:
        """Ids of each paragraph, None for a blank line; batches are bounded, for an encoded text takes much memory."""
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
    blocks: Iterable[Block], source: str, encoder: Encoder, *, processes: int = 1
) -> Iterator[tuple[Block, Encoded]]:
    """Encode blocks, and give them in their order, whatever the number of processes.

    Args:
        blocks: Of one source; a few more are read than are encoded.
        source: For messages.
        encoder: What each process has.
        processes: How many; 1 is this one, and starts no other.

    Raises:
        BortError: What reading or encoding raises, the first of it in the order of the text.
        Interrupted: A process died.
    """
    if processes == 1:
        for block in blocks:
            yield block, encoder(block.text, block.first, source)
        return
    with _Processes(encoder, processes) as side:
        waiting: deque[tuple[Block, Future[Encoded]]] = deque()
        left, failure = iter(blocks), None
        while True:
            while failure is None and len(waiting) < _AHEAD * processes:
                try:
                    block = next(left)
                except StopIteration:
                    break
                except BortError as error:
                    failure = error  # what was read before it comes first
                    break
                waiting.append((block, side.encode(block, source)))
            if not waiting:
                break
            block, result = waiting.popleft()
            yield block, result.result()
        if failure is not None:
            raise failure


class _Processes:
    """Pythons that encode; one is started when all others are at work."""

    def __init__(self, encoder: Encoder, count: int) -> None:
        self._hello = json.dumps([encoder.backend.to_str(), int(encoder.end[0]), encoder.dtype]).encode()
        self._dtype = encoder.dtype
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(count)
        self._closed = False
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.kill()
        self._threads.shutdown(wait=True)
        for process in self._all:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def encode(self, block: Block, source: str) -> Future[Encoded]:
        """Have a block encoded by whichever is free."""
        return self._threads.submit(self._encode, block, source)

    def _encode(self, block: Block, source: str) -> Encoded:
        process = self._idle.get()
        try:
            process = process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            _write(process.stdin, json.dumps([block.first, source]).encode(), block.text)
            head, ids = _read(process.stdout)
            told = json.loads(head)
            starts = np.frombuffer(_read(process.stdout)[1], np.int64)
        except (OSError, EOFError, ValueError):
            process = None
            rule = "a process that tokenises has died; the same command goes on, perhaps with fewer --corpus_processes"
            raise Interrupted(rule, file=source, line=block.first) from None
        finally:
            self._idle.put(process)
        if "rule" in told:
            raise BortError(told["rule"], file=told["file"], line=told["line"])
        return Encoded(np.frombuffer(ids, self._dtype), starts, told["ends_before"], told["open"])

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise EOFError
        # The same modules as here, and one thread each.
        path = os.pathsep.join(place for place in sys.path if place)
        environment = os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._all.append(process)
        assert process.stdin is not None
        _write(process.stdin, self._hello, b"")
        return process


def serve() -> None:
    """Encode blocks from standard input until it ends: what a process beside the driver runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        encoder = Encoder(*json.loads(_read(asked)[0]))
        while True:
            head, text = _read(asked)
            first, source = json.loads(head)
            try:
                done = encoder(text, first, source)
            except BortError as error:
                told = {"rule": error.rule, "file": str(error.file), "line": error.line}
                _write(answers, json.dumps(told).encode(), b"")
                _write(answers, b"", b"")
                continue
            told = {"ends_before": done.ends_before, "open": done.open}
            _write(answers, json.dumps(told).encode(), done.ids.tobytes())
            _write(answers, b"", done.starts.tobytes())


def _write(pipe: IO[bytes], head: bytes, body: bytes) -> None:
    pipe.write(_HEAD.pack(len(head), len(body)))
    pipe.write(head)
    pipe.write(body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    sizes = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    return _exactly(pipe, sizes[0]), _exactly(pipe, sizes[1])


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError
    return found
