"""A text corpus as token ids: tokenised once, memory-mapped, with its document boundaries.

The folder holds `corpus.json`, and for each of `train` and `valid` the ids one after another (`train.bin`, uint16
where the vocabulary allows) and where each document starts (`train.starts.npy`, int64). Every document ends with
`</s>`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.textfiles import read_lines
from bort.errors import BortError
from bort.files import folder_aside

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Part = Literal["train", "valid"]
FORMAT = 1
_PARAGRAPHS_PER_BATCH = 2048
_CHARACTERS_PER_BATCH = 1 << 23


@dataclass(frozen=True)
class CorpusInfo:
    """What a corpus folder says of itself."""

    dtype: str
    vocab_size: int
    tokenizer_sha256: str
    train_tokens: int
    valid_tokens: int
    train_documents: int
    valid_documents: int
    sources: list[dict[str, Any]]
    format: int = FORMAT


@dataclass(frozen=True)
class Corpus:
    """An opened corpus; the arrays are memory-mapped and read-only."""

    path: Path
    info: CorpusInfo

    def tokens(self, part: Part) -> NDArray[np.unsignedinteger[Any]]:
        """All ids of a part. *Shape:* (tokens,)."""
        size = self.info.train_tokens if part == "train" else self.info.valid_tokens
        if size == 0:
            return np.empty(0, dtype=self.info.dtype)
        return np.memmap(self.path / f"{part}.bin", dtype=self.info.dtype, mode="r", shape=(size,))

    def starts(self, part: Part) -> NDArray[np.int64]:
        """Index of the first token of each document. *Shape:* (documents,)."""
        starts: NDArray[np.int64] = np.load(self.path / f"{part}.starts.npy", mmap_mode="r", allow_pickle=False)
        return starts


def open_corpus(path: str | Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Corpus:
    """Open a corpus folder.

    Raises:
        BortError: It is not one, it is incomplete, or another tokenizer wrote it.
    """
    path = Path(path)
    file = path / "corpus.json"
    try:
        info = CorpusInfo(**json.loads(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise BortError(f"is not a tokenised corpus: {error}", file=file) from None
    if info.format != FORMAT or info.dtype not in ("uint16", "uint32"):
        raise BortError("was written in a format that this version does not read", file=file, value=info.format)
    parts = (("train", info.train_tokens, info.train_documents), ("valid", info.valid_tokens, info.valid_documents))
    for part, tokens, documents in parts:
        if not isinstance(tokens, int) or not isinstance(documents, int):
            raise BortError("must give numbers of tokens and documents", file=file, value=[tokens, documents])
        binary = path / f"{part}.bin"
        if not binary.is_file() or binary.stat().st_size != tokens * np.dtype(info.dtype).itemsize:
            raise BortError(f"must hold {tokens} ids of {info.dtype}", file=binary)
        if _entries(path / f"{part}.starts.npy") != documents:
            raise BortError(f"must hold the starts of {documents} documents", file=path / f"{part}.starts.npy")
    if tokenizer is not None and info.tokenizer_sha256 != fingerprint(tokenizer):
        raise BortError("was tokenised with another tokenizer; remove it, or name another --corpus_cache", file=path)
    return Corpus(path, info)


def _entries(array: Path) -> int | None:
    try:
        return len(np.load(array, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError, TypeError):
        return None


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of what the tokenizer does to text (its vocabulary, merges, normaliser)."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def build_corpus(
    sources: list[str],
    tokenizer: PreTrainedTokenizerFast,
    out: str | Path,
    *,
    valid_share: float = 0.005,
    progress: Callable[[int, int], None] = lambda done, tokens: None,
) -> Corpus:
    """Tokenise texts into a corpus folder, whole or not at all.

    A text file has one paragraph a line and a blank line between documents. Every `1 / valid_share`-th document is
    held out for validation; where there are too few documents for that, the last share of the tokens is.

    Args:
        sources: Text files (`.xz`, `.gz`, `.bz2`, `.zst` too), or hub data sets as `owner/name[@config]:split`.
        tokenizer: Turns text into ids.
        out: The folder; a corpus there is replaced, anything else is not.
        valid_share: Part of the documents to hold out, above 0 and at most 0.5.
        progress: Called with the stored bytes of the sources read so far and the tokens written.

    Raises:
        BortError: A source that cannot be read, or one without text; a folder that holds something else.
    """
    if not 0 < valid_share <= 0.5:
        raise BortError("must be above 0 and at most 0.5", column="valid_share", value=valid_share)
    _check_replaceable(Path(out))
    stride = round(1 / valid_share)
    with folder_aside(out) as folder, contextlib.ExitStack() as files:
        parts: tuple[Part, Part] = ("train", "valid")
        writers = {
            part: _PartWriter(files.enter_context(open(folder / f"{part}.bin", "wb")), tokenizer) for part in parts
        }
        described = []
        documents = done = 0
        for source in sources:
            before = sum(writer.tokens for writer in writers.values())
            read = 0

            def on_bytes(position: int, done: int = done) -> None:
                nonlocal read
                read = position
                progress(done + position, sum(writer.tokens for writer in writers.values()))

            for ids in _encoded_paragraphs(source, tokenizer, on_bytes):
                writer = writers["valid" if documents % stride == stride - 1 else "train"]
                if ids is None:
                    documents += writer.end_document()
                else:
                    writer.add(ids)
            tokens = sum(writer.tokens for writer in writers.values()) - before
            if tokens == 0:
                raise BortError("holds no text", file=source)
            described.append({"name": Path(source).name, "tokens": tokens})
            done += read
        files.close()
        if writers["valid"].tokens == 0:
            _hold_out_the_end(folder, writers, valid_share)
        info = CorpusInfo(
            dtype=writers["train"].dtype.name,
            vocab_size=len(tokenizer),
            tokenizer_sha256=fingerprint(tokenizer),
            train_tokens=writers["train"].tokens,
            valid_tokens=writers["valid"].tokens,
            train_documents=len(writers["train"].starts),
            valid_documents=len(writers["valid"].starts),
            sources=described,
        )
        for part, writer in writers.items():
            np.save(folder / f"{part}.starts.npy", np.asarray(writer.starts, dtype=np.int64), allow_pickle=False)
        (folder / "corpus.json").write_text(json.dumps(asdict(info), indent=2) + "\n", "utf-8")
    return open_corpus(out)


def _check_replaceable(out: Path) -> None:
    if out.is_dir() and ((out / "corpus.json").is_file() or not any(out.iterdir())):
        return
    if out.exists():
        raise BortError("holds something else than a corpus, which would be lost; name another folder", file=out)


class _PartWriter:
    """Appends documents to one part, paragraph by paragraph."""

    def __init__(self, file: BinaryIO, tokenizer: PreTrainedTokenizerFast) -> None:
        self.dtype: np.dtype[Any] = np.dtype("uint16" if len(tokenizer) <= 1 << 16 else "uint32")
        self.tokens = 0
        self.starts: list[int] = []
        self._in_document = False
        self._end = int(tokenizer.sep_token_id)
        self._file = file

    def add(self, ids: list[int]) -> None:
        if not self._in_document:
            self.starts.append(self.tokens)
            self._in_document = True
        self._file.write(np.asarray(ids, dtype=self.dtype).tobytes())
        self.tokens += len(ids)

    def end_document(self) -> int:
        """End the document, and say how many that were: 1, or 0 where none had begun."""
        if not self._in_document:
            return 0
        self.add([self._end])
        self._in_document = False
        return 1


def _hold_out_the_end(folder: Path, writers: dict[Part, _PartWriter], share: float) -> None:
    """With too few documents to hold any out, the last tokens serve; a document cut in two goes on in validation."""
    train, valid = writers["train"], writers["valid"]
    tokens = np.fromfile(folder / "train.bin", dtype=train.dtype)
    cut = len(tokens) - max(1, round(len(tokens) * share))
    tokens[:cut].tofile(folder / "train.bin")
    tokens[cut:].tofile(folder / "valid.bin")
    valid.starts = [0, *(start - cut for start in train.starts if start > cut)]
    train.starts = [start for start in train.starts if start < cut]
    train.tokens, valid.tokens = cut, len(tokens) - cut


def _encoded_paragraphs(
    source: str, tokenizer: PreTrainedTokenizerFast, on_bytes: Callable[[int], None]
) -> Iterator[list[int] | None]:
    """Ids of each paragraph, and None at the end of a document; the Rust library encodes batches on all cores."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for batch in _batches(_paragraphs(source, on_bytes)):
        texts = [text for text in batch if text is not None]
        encoded = iter(backend.encode_batch_fast(texts, add_special_tokens=False))
        for text in batch:
            yield None if text is None else next(encoded).ids


def _paragraphs(source: str, on_bytes: Callable[[int], None]) -> Iterator[str | None]:
    """Paragraphs, and None at the end of a document."""
    if not Path(source).exists() and ":" in source and "/" in source:
        for text in _hub_texts(source):
            yield from (line for line in text.split("\n") if line.strip())
            yield None
        return
    for line in read_lines(source, on_bytes=on_bytes):
        yield line if line.strip() else None
    yield None


def _hub_texts(source: str) -> Iterator[str]:
    name, _, split = source.rpartition(":")
    name, _, config = name.partition("@")
    import datasets

    try:
        rows = datasets.load_dataset(name, config or None, split=split, streaming=True)
        for number, row in enumerate(rows, start=1):
            text = row.get("text")
            if not isinstance(text, str):
                raise BortError("a corpus needs a column of text", file=source, line=number, column="text", value=text)
            yield text
    except BortError:
        raise
    except Exception as error:  # offline, unknown, gated, cut off: the library has a class for each
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BortError(f"the data set cannot be loaded from the hub: {first}", file=source) from None


def _batches(items: Iterable[str | None]) -> Iterator[list[str | None]]:
    """Batches of bounded size, however long the paragraphs are."""
    batch: list[str | None] = []
    characters = 0
    for item in items:
        batch.append(item)
        characters += len(item or "")
        if len(batch) >= _PARAGRAPHS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
