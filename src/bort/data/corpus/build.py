"""Builds a corpus: settings, output folder and its lock; `CorpusBuilder` does the work."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bort.cores import usable_cores
from bort.data.corpus import builder, text_blocks
from bort.data.corpus.builder import CorpusBuilder
from bort.data.corpus.corpus import FORMAT, Corpus, fingerprint, open_corpus
from bort.data.corpus.sources import SourceState, is_hub, is_unchanged
from bort.data.corpus.text_blocks import Interrupted
from bort.data.tables.compressed import COMPRESSED
from bort.data.tables.readers import check_plain
from bort.errors import BortError
from bort.files import FolderLock, is_vacant, replace_folder

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
    """Tokenise texts into a corpus folder, atomically, in memory that does not grow with the texts.

    A text file has one paragraph per line and a blank line between documents. Every `1 / valid_share`-th document is
    held out for validation; if there are too few documents for that, the last `valid_share` of the tokens is.

    A call that is killed, loses the hub or runs out of disk space resumes when repeated with the same unchanged
    sources, tokenizer and `valid_share`. The corpus has the same bytes as an uninterrupted one, for any number of
    processes.

    Args:
        sources: Text files (also `.xz`, `.gz`, `.bz2`, `.zst`), or hub data sets as `owner/name[@config]:split`.
        tokenizer: Encodes the texts.
        out: Output folder; an existing corpus is replaced, anything else is refused.
        valid_share: Share of the documents to hold out, above 0 and at most 0.5.
        processes: Number of encoding processes; 1 is this one, None one per core if there is enough text.
        progress: Called with the number of stored source bytes read and of tokens written so far.

    Raises:
        BortError: A source cannot be read or has no text; the folder holds something else, or another process is
            writing it.
    """
    if not 0 < valid_share <= 0.5:
        raise BortError("must be above 0 and at most 0.5", setting="valid_share", value=valid_share)
    if processes is not None and processes < 1:
        raise BortError("must be at least 1", setting="corpus_processes", value=processes)
    for source in sources:
        if not is_hub(source):
            check_plain(source)
    out = Path(out)
    _check_replaceable(out)
    key = {
        "format": FORMAT,
        "tokenizer": fingerprint(tokenizer),
        "sources": [asdict(SourceState.of(source)) for source in sources],
        "valid_share": valid_share,
        "sizes": [text_blocks.BLOCK_BYTES, builder.SHARD_TOKENS],
    }
    work = _work(out)
    with closing(_locked(work, out)):
        try:
            CorpusBuilder(work, key, tokenizer).run(processes or _fitting(sources), progress)
        except BortError as error:
            if not isinstance(error, Interrupted) or not (work / "state.json").is_file():
                shutil.rmtree(work, ignore_errors=True)
            raise
        replace_folder(work / "corpus", out)
        shutil.rmtree(work)
    return open_corpus(out)


def remove_leftovers(out: Path) -> None:
    """Remove the work folder of a corpus that a process had finished when it was killed."""
    work = _work(out)
    if work.is_dir() and not (work / "corpus").exists():
        with contextlib.suppress(BortError, OSError), closing(_locked(work, out)):  # a shared one may be read-only
            shutil.rmtree(work)


def _work(out: Path) -> Path:
    return out.parent / f".{out.name}.tokenising"


def _check_replaceable(out: Path) -> None:
    if out.is_dir() and ((out / "corpus.json").is_file() or is_vacant(out)):
        return
    if out.exists():
        raise BortError("holds something other than a corpus, which would be lost; name another folder", file=out)


def _fitting(sources: list[str]) -> int:
    """Return one process per core, but no more than about one per four blocks of text."""
    cores = usable_cores()
    if any(map(is_hub, sources)):
        return cores
    plain: int = sum(SourceState.of(source).size_bytes for source in sources)
    packed = any(Path(source).suffix.lower() in COMPRESSED for source in sources)
    wanted: int = 1 + plain * (_UNPACKED if packed else 1) // (4 * text_blocks.BLOCK_BYTES)
    return min(cores, wanted)


def _locked(work: Path, out: Path) -> FolderLock:
    """Keep other processes from building the same corpus."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        return FolderLock(work)
    except BlockingIOError:
        raise BortError("another process is tokenising into this folder", file=out) from None


def check_made_from(corpus: Corpus, sources: list[str], valid_share: float) -> None:
    """Refuse a corpus built from other or since edited text, or with another validation share.

    Raises:
        BortError: Something differs.
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
