"""Build an index of text files of any size: read, embed and write them block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bort.data.index.layout import NAME, Description, Stored
from bort.data.index.search import Index
from bort.data.index.writer import IndexWriter, is_unfinished
from bort.data.tables.lines import read_lines, total_bytes
from bort.errors import BortError
from bort.predict.encoder import Encoder
from bort.predict.fingerprint import fingerprint_of_model
from bort.progress import bar, console

_BATCH_TEXTS = 256
_BATCHES_A_COMMIT = 16
_LONGEST_CHARACTERS = 10_000
"""Of a stored text; encoders read less of it."""


def text_files(source: str | Path) -> list[Path]:
    """The file itself, or all files of a folder and its subfolders, sorted by path; hidden files are skipped.

    Raises:
        BortError: There are none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise BortError("holds no files", file=path)
        return files
    if not path.is_file():
        raise BortError("no such file or folder", file=path)
    return [path]


def build_index(
    source: str | Path,
    out: str | Path,
    model: str,
    *,
    stored: Stored = "int8",
    threads: int | None = None,
    resume: bool = False,
) -> Index:
    """Embed each line of text files and write an index.

    Blank lines are skipped. With `resume`, a killed run continues at its last checkpoint, every few thousand texts, and
    writes the same files. Memory use does not grow with the number of texts.

    Args:
        source: A file with one text per line (may be compressed: gzip, xz, bzip2, zstd), or a folder of such files.
        out: Folder to write.
        model: The encoder; an int8 export is the fastest.
        stored: Type of the stored numbers.
        threads: Threads of the encoder; by default one per core.
        resume: Continue an unfinished index, with the same encoder.

    Raises:
        BortError: A file cannot be read, the model cannot be loaded, or `out` holds something else, such as an
            unfinished index of another encoder, even if its folder has the same name.
    """
    files = text_files(source)
    states = [file.stat() for file in files]
    sources = tuple(
        {"name": str(file), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
        for file, state in zip(files, states, strict=True)
    )
    with Encoder(model, threads=threads) as encoder:
        description = Description(model, encoder.size, stored, sources=sources)
        if resume and _is_finished(Path(out), description):
            console().print(f"{out}: already finished", soft_wrap=True)
            return Index(out)
        writer = IndexWriter(Path(out), description, fingerprint_of_model(model), resume=resume)
        # The traceback of an interrupted call, which a notebook keeps, holds the writer and would hold its lock.
        with (
            contextlib.closing(writer),
            bar("indexing", total_bytes([str(file) for file in files])) as shown,
        ):

            def on_bytes(done: int) -> None:
                shown.update(done, f"{writer.count:,} texts")

            lines = _lines(files, on_bytes)
            read = sum(1 for _ in islice(lines, writer.read))
            while block := list(islice(lines, _BATCH_TEXTS * _BATCHES_A_COMMIT)):
                read += len(block)
                texts = [line for line in block if line.strip()]
                start = 0
                for vectors in encoder.stream(texts, batch_size=_BATCH_TEXTS, normalize=True):
                    writer.append(texts[start : start + len(vectors)], vectors)
                    start += len(vectors)
                writer.commit(read)
            writer.finish()
    return Index(out)


def _is_finished(out: Path, description: Description) -> bool:
    """Whether a complete index of the same encoder and texts exists."""
    if not (out / NAME).is_file() or is_unfinished(out):
        return False
    return replace(Description.read(out), count=0, files={}) == description


def _lines(files: list[Path], on_bytes: Callable[[int], None]) -> Iterator[str]:
    """The lines of all files, truncated to `_LONGEST_CHARACTERS`."""
    before = 0
    for file in files:

        def told(done: int, before: int = before) -> None:
            on_bytes(before + done)

        for line in read_lines(file, on_bytes=told):
            yield line[:_LONGEST_CHARACTERS].replace("\0", " ")
        before += file.stat().st_size
