"""Making a corpus: the settings, the folder, and the lock on it; the work itself is the builder's."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bort.cores import usable_cores
from bort.data.corpus import builder, text_blocks
from bort.data.corpus.builder import CorpusBuilder
from bort.data.corpus.corpus import FORMAT, Corpus, fingerprint, open_corpus
from bort.data.corpus.sources import SourceState, is_hub, is_unchanged
from bort.data.corpus.text_blocks import Interrupted
from bort.errors import BortError
from bort.files import is_vacant, replace_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
        "sources": [asdict(SourceState.of(source)) for source in sources],
        "valid_share": valid_share,
        "sizes": [text_blocks.BLOCK_BYTES, builder.SHARD_TOKENS],
    }
    work = out.parent / f".{out.name}.tokenising"
    with _only_here(work, out):
        try:
            CorpusBuilder(work, key, tokenizer).run(processes or _fitting(sources), progress)
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


def _fitting(sources: list[str]) -> int:
    """One process a core, but none that would have no block to encode."""
    cores = usable_cores()
    if any(map(is_hub, sources)):
        return cores
    plain: int = sum(SourceState.of(source).size_bytes for source in sources)
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


def check_made_from(corpus: Corpus, sources: list[str], valid_share: float) -> None:
    """Refuse a corpus that these settings would not make: one of other or since edited text, or of another share.

    Raises:
        BortError: What is not the same.
    """
    another = "name another --corpus-cache, or remove it"
    known = corpus.info.sources
    if len(known) != len(sources):
        names = ", ".join(source["name"] for source in known)
        raise BortError(f"holds the corpus of {names}; {another}", file=corpus.path)
    for source, before in zip(sources, known, strict=True):
        if not is_unchanged(source, before):
            rule = f"holds the corpus of {before['name']} as it was when it was tokenised; {another}"
            raise BortError(rule, file=corpus.path, value=source)
    if corpus.info.valid_share != valid_share:
        rule = f"the corpus in {corpus.path} was made with {corpus.info.valid_share}; {another}"
        raise BortError(rule, setting="valid_share", value=valid_share)
