"""Making a corpus: text streams in, ids stream out to shards, and what is interrupted goes on.

While it is made, a corpus `NAME` lies in `.NAME.tokenising` beside it, with a `state.json` that says how much of each
file is whole and where in which source the next block begins. What a killed process wrote after that is cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus import text_blocks
from bort.data.corpus.corpus import (
    FORMAT,
    PARTS,
    Corpus,
    CorpusInfo,
    Part,
    fingerprint,
    open_corpus,
    part_starts,
    part_tokens,
)
from bort.data.corpus.parallel_encoding import EncodedBlock, Encoder, encode_all
from bort.data.corpus.shard_writer import PartWriter
from bort.data.corpus.text_blocks import Interrupted, Place, is_hub, read_blocks
from bort.errors import BortError
from bort.files import is_vacant, replace_folder, write_aside

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARD_TOKENS = 1 << 29
COMMIT_SECONDS = 5.0
_COPIED_AT_ONCE = 1 << 22
_UNPACKED = 4


def build_corpus(
    sources: list[str],
    tokenizer: PreTrainedTokenizerFast,
    out: str | Path,
    *,
    valid_share: float = 0.005,
    processes: int | None = 1,
    progress: Callable[[int, int], None] = lambda done, tokens: None,
) -> Corpus:
    """Tokenise texts into a corpus folder, whole or not at all, in memory that does not grow with the texts.

    A text file has one paragraph a line and a blank line between documents. Every `1 / valid_share`-th document is
    held out for validation; where there are too few documents for that, the last share of the tokens is.

    What is killed, cut off from the hub, or out of disk space goes on when it is called again with the same sources,
    unchanged, and the same tokenizer, to the bytes of an uninterrupted one. The corpus is the same for any number of
    processes.

    Args:
        sources: Text files (`.xz`, `.gz`, `.bz2`, `.zst` too), or hub data sets as `owner/name[@config]:split`.
        tokenizer: Turns text into ids.
        out: The folder; a corpus there is replaced, anything else is not.
        valid_share: Part of the documents to hold out, above 0 and at most 0.5.
        processes: How many encode; 1 is this one, None is one a core, where there is so much text.
        progress: Called with the stored bytes of the sources read so far and the tokens written.

    Raises:
        BortError: A source that cannot be read, or one without text; a folder that holds something else, or one that
            another process is writing.
    """
    if not 0 < valid_share <= 0.5:
        raise BortError("must be above 0 and at most 0.5", setting="valid_share", value=valid_share)
    if processes is not None and processes < 1:
        raise BortError("must be at least 1", setting="corpus_processes", value=processes)
    out = Path(out)
    _check_replaceable(out)
    key = {
        "format": FORMAT,
        "tokenizer": fingerprint(tokenizer),
        "sources": [_described(source) for source in sources],
        "valid_share": valid_share,
        "sizes": [text_blocks.BLOCK_BYTES, SHARD_TOKENS],
    }
    work = out.parent / f".{out.name}.tokenising"
    with _only_here(work, out):
        try:
            making = _Making(work, key, sources, tokenizer, valid_share)
            making.run(processes or _fitting(sources), progress)
        except BortError as error:
            if not isinstance(error, Interrupted) or not (work / "state.json").is_file():
                shutil.rmtree(work, ignore_errors=True)
            raise
        replace_folder(work / "corpus", out)
        shutil.rmtree(work)
    return open_corpus(out)


def _check_replaceable(out: Path) -> None:
    if out.is_dir() and ((out / "corpus.json").is_file() or is_vacant(out)):
        return
    if out.exists():
        raise BortError("holds something else than a corpus, which would be lost; name another folder", file=out)


def _described(source: str) -> list[Any]:
    """A source by name, and a file by its size and time as well: another one of that name is another text."""
    if is_hub(source):
        return [source]
    try:
        known = Path(source).stat()
    except FileNotFoundError:
        raise BortError("no such file", file=source) from None
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=source) from None
    return [source, known.st_size, known.st_mtime_ns]


def _fitting(sources: list[str]) -> int:
    """One process a core, but none that would have no block to encode."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if any(map(is_hub, sources)):
        return cores
    plain: int = sum(_described(source)[1] for source in sources)
    packed = any(Path(source).suffix in (".gz", ".xz", ".bz2", ".zst") for source in sources)
    wanted: int = 1 + plain * (_UNPACKED if packed else 1) // (4 * text_blocks.BLOCK_BYTES)
    return min(cores, wanted)


@contextlib.contextmanager
def _only_here(work: Path, out: Path) -> Iterator[None]:
    """Let no other process make the same corpus; the lock of a killed one is free."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "wb") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # a system without such locks
        except BlockingIOError:
            raise BortError("another process is tokenising into this folder", file=out) from None
        yield


class _Making:
    """A corpus on its way.

    Args:
        work: The folder of the work.
        key: What the result depends on; work that was done under another one is thrown away.
        sources: Texts.
        tokenizer: Turns text into ids.
        valid_share: Part to hold out.
    """

    def __init__(
        self,
        work: Path,
        key: dict[str, Any],
        sources: list[str],
        tokenizer: PreTrainedTokenizerFast,
        valid_share: float,
    ) -> None:
        self.folder, self.state_file, self.key, self.sources = work / "corpus", work / "state.json", key, sources
        self.valid_share, self.stride = valid_share, round(1 / valid_share)
        self.dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
        self.vocab_size = len(tokenizer)
        self.end = np.array([tokenizer.sep_token_id], self.dtype)
        self.encoder = Encoder(tokenizer.backend_tokenizer.to_str(), int(tokenizer.sep_token_id), self.dtype)
        self.place, self.documents, self.in_document, self.held_out = Place(), 0, False, False
        self.described: list[dict[str, Any]] = []
        self.before = 0
        self.parts = self._restored() or self._anew()
        self._committed = time.monotonic()

    def _anew(self) -> dict[Part, PartWriter]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return {part: PartWriter(self.folder, part, self.dtype, [], SHARD_TOKENS) for part in PARTS}

    def _restored(self) -> dict[Part, PartWriter] | None:
        """Take up what a killed process committed; None where there is nothing of use."""
        try:
            state = json.loads(self.state_file.read_text("utf-8"))
            if state["key"] != self.key:
                return None
            parts = {
                part: PartWriter(self.folder, part, self.dtype, state["shards"][part], SHARD_TOKENS) for part in PARTS
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self.place, self.before, self.described = Place(**state["place"]), state["before"], state["described"]
        self.documents, self.in_document = state["documents"], state["in_document"]
        self.held_out = state["held_out"]
        return parts

    def _commit(self, shards: dict[Part, list[list[int]]] | None = None) -> None:
        """Make what is written durable, then say so."""
        for writer in self.parts.values():
            writer.sync()
        state = {
            "key": self.key,
            "place": asdict(self.place),
            "before": self.before,
            "described": self.described,
            "documents": self.documents,
            "in_document": self.in_document,
            "held_out": self.held_out,
            "shards": shards or {part: writer.shards for part, writer in self.parts.items()},
        }
        with write_aside(self.state_file) as file:
            json.dump(state, file)
        self._committed = time.monotonic()

    @property
    def tokens(self) -> int:
        """Written so far."""
        return sum(writer.tokens for writer in self.parts.values())

    def run(self, processes: int, progress: Callable[[int, int], None]) -> None:
        """Go on to the end: every source, the held-out part, `corpus.json`."""
        sizes = [described[1] if len(described) > 1 else 0 for described in self.key["sources"]]
        for number in range(len(self.described), len(self.sources)):
            source, done = self.sources[number], sum(sizes[:number])
            for block, encoded in encode_all(
                read_blocks(source, self.place), source, self.encoder, processes=processes
            ):
                self._append(encoded)
                self.place = block.after
                progress(done + block.stored, self.tokens)
                if time.monotonic() - self._committed >= COMMIT_SECONDS:
                    self._commit()
            if self.in_document:
                self._end_document()
            if self.tokens == self.before:
                raise BortError("holds no text", file=source)
            self.described.append({"name": Path(source).name, "tokens": self.tokens - self.before})
            self.place, self.before = Place(), self.tokens
            progress(done + sizes[number], self.tokens)
        if not self.held_out and not self.parts["valid"].tokens:
            self._hold_out_the_end()
        for writer in self.parts.values():
            writer.close()
        self._describe()

    def _append(self, encoded: EncodedBlock) -> None:
        """Write a block's documents to their parts; its first text may go on with the last document."""
        if encoded.ends_before and self.in_document:
            self._end_document()
        ids, starts = encoded.ids, encoded.starts
        stops = np.append(starts[1:], len(ids))
        piece = 0
        while piece < len(starts):
            into = (self.documents + piece) % self.stride
            last = min(len(starts), piece + (1 if into == self.stride - 1 else self.stride - 1 - into))
            first = int(starts[piece])
            begun = starts[piece + (piece == 0 and self.in_document) : last] - first
            self._writer(self.documents + piece).write(ids[first : stops[last - 1]], begun)
            piece = last
        if len(starts):
            self.documents += len(starts) - encoded.open
            self.in_document = encoded.open
        for writer in self.parts.values():
            writer.next_shard_if_full()

    def _writer(self, document: int) -> PartWriter:
        return self.parts["valid" if document % self.stride == self.stride - 1 else "train"]

    def _end_document(self) -> None:
        self._writer(self.documents).write(self.end, np.empty(0, np.int64))
        self.documents += 1
        self.in_document = False

    def _hold_out_the_end(self) -> None:
        """With too few documents to hold any out, the last tokens serve; a document cut in two goes on there."""
        train, valid = self.parts["train"], self.parts["valid"]
        train.sync()
        tokens = part_tokens(self.folder, "train", train.shards, self.dtype)
        starts: NDArray[np.int64] = np.asarray(part_starts(self.folder, "train", train.shards))
        cut = len(tokens) - max(1, round(len(tokens) * self.valid_share))
        begun = np.append(cut, starts[starts > cut])
        for first in range(cut, len(tokens), _COPIED_AT_ONCE):
            ids = tokens[first : first + _COPIED_AT_ONCE]
            valid.write(ids, begun[(begun >= first) & (begun < first + len(ids))] - first)
            valid.next_shard_if_full()
        kept = train.shards_before(cut, starts)
        self.held_out = True
        if self.state_file.is_file():  # what is cut off next would be missed
            self._commit({"train": kept, "valid": valid.shards})
        train.close()
        self.parts["train"] = PartWriter(self.folder, "train", self.dtype, kept, SHARD_TOKENS)

    def _describe(self) -> None:
        train, valid = self.parts["train"], self.parts["valid"]
        info = CorpusInfo(
            dtype=self.dtype,
            vocab_size=self.vocab_size,
            tokenizer_sha256=self.key["tokenizer"],
            train_tokens=train.tokens,
            valid_tokens=valid.tokens,
            train_documents=train.documents,
            valid_documents=valid.documents,
            shards={part: writer.shards for part, writer in self.parts.items()},
            sources=self.described,
        )
        with write_aside(self.folder / "corpus.json") as file:
            json.dump(asdict(info), file, indent=2)
            file.write("\n")
