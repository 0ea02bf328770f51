"""Builds a corpus: ids stream to shards, and an interrupted build resumes to the same bytes.

During the build, a corpus `NAME` is in `.NAME.tokenising` next to it, with a `state.json` that records how much of each
file is committed and where in which source the next block begins. Anything written after that commit is truncated.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.corpus import (
    FORMAT,
    PARTS,
    CorpusInfo,
    Part,
    part_starts,
    part_tokens,
)
from bort.data.corpus.parallel_encoding import BlockEncoder, EncodedBlock, encode_all
from bort.data.corpus.shard_writer import PartWriter
from bort.data.corpus.sources import SourceState, described
from bort.data.corpus.text_blocks import Place, read_blocks
from bort.errors import BortError
from bort.files import write_aside
from bort.formats import stamp

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARD_TOKENS = 1 << 29
COMMIT_SECONDS = 5.0
_COPIED_AT_ONCE = 1 << 22


class CorpusBuilder:
    """Builds a corpus, or resumes an interrupted build.

    Args:
        work: The working directory.
        key: Everything that the result depends on; work done under another key is discarded.
        tokenizer: Encodes the texts.
    """

    def __init__(self, work: Path, key: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> None:
        self.folder, self.state_file, self.key = work / "corpus", work / "state.json", key
        self.sources = [SourceState(**state) for state in key["sources"]]
        self.valid_share, self.stride = key["valid_share"], round(1 / key["valid_share"])
        self.dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
        self.vocab_size = len(tokenizer)
        self.end = np.array([tokenizer.sep_token_id], self.dtype)
        self.encoder = BlockEncoder(tokenizer.backend_tokenizer.to_str(), int(tokenizer.sep_token_id), self.dtype)
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
        """Restore what an interrupted build committed; None if there is nothing usable."""
        try:
            state = json.loads(self.state_file.read_text("utf-8"))
            if state["key"] != self.key:
                return None
            parts = {
                part: PartWriter(self.folder, part, self.dtype, state["shards"][part], SHARD_TOKENS) for part in PARTS
            }
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return None
        self.place, self.before, self.described = Place(**state["place"]), state["before"], state["described"]
        self.documents, self.in_document = state["documents"], state["in_document"]
        self.held_out = state["held_out"]
        return parts

    def _commit(self, shards: dict[Part, list[list[int]]] | None = None) -> None:
        """Flush the shards to disk, then record the state."""
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
        """Number of ids written so far, in both parts."""
        return sum(writer.tokens for writer in self.parts.values())

    def run(self, processes: int, progress: Callable[[int, int], None]) -> None:
        """Run to the end: all sources, the held-out part, `corpus.json`."""
        done = sum(source.size_bytes for source in self.sources[: len(self.described)])
        for source in self.sources[len(self.described) :]:
            blocks = read_blocks(source.name, self.place)
            for block, encoded in encode_all(blocks, source.name, self.encoder, processes=processes):
                self._append(encoded)
                self.place = block.after
                progress(done + block.stored, self.tokens)
                if time.monotonic() - self._committed >= COMMIT_SECONDS:
                    self._commit()
            if self.in_document:
                self._end_document()
            if self.tokens == self.before:
                raise BortError("holds no text", file=source.name)
            self.described.append({**described(source), "tokens": self.tokens - self.before})
            self.place, self.before = Place(), self.tokens
            done += source.size_bytes
            progress(done, self.tokens)
        if not self.held_out and not self.parts["valid"].tokens:
            self._hold_out_the_end()
        for writer in self.parts.values():
            writer.close()
        self._describe()

    def _append(self, encoded: EncodedBlock) -> None:
        """Write a block's documents to their parts; its first text may continue the last document."""
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
        """Hold out the last tokens, since there are too few documents; a document may be cut in two."""
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
        if self.state_file.is_file():  # a state that counts the tokens cut off next could not be restored
            self._commit({"train": kept, "valid": valid.shards})
        train.close()
        self.parts["train"] = PartWriter(self.folder, "train", self.dtype, kept, SHARD_TOKENS)

    def _describe(self) -> None:
        train, valid = self.parts["train"], self.parts["valid"]
        info = CorpusInfo(
            dtype=self.dtype,
            vocab_size=self.vocab_size,
            tokenizer_sha256=self.key["tokenizer"],
            valid_share=self.valid_share,
            train_tokens=train.tokens,
            valid_tokens=valid.tokens,
            train_documents=train.documents,
            valid_documents=valid.documents,
            shards={part: writer.shards for part, writer in self.parts.items()},
            sources=self.described,
            **stamp(FORMAT),
        )
        with write_aside(self.folder / "corpus.json") as file:
            json.dump(asdict(info), file, indent=2)
            file.write("\n")
