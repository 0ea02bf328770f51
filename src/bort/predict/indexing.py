"""Build an index of text files of any size: read, embed and write them block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bort.data.index.layout import FILES, NAME, Description, Stored, located
from bort.data.index.search import Index
from bort.data.index.writer import IndexWriter, is_unfinished
from bort.data.tables.lines import read_all_lines, total_bytes
from bort.data.tables.readers import check_plain, is_table
from bort.errors import BortError
from bort.files import check_apart
from bort.predict.encoder import Encoder
from bort.predict.fingerprint import fingerprint_of_model
from bort.progress import bar, say

_BATCH_TEXTS = 256
_BATCHES_A_COMMIT = 16
_LONGEST_CHARACTERS = 10_000
"""Of a stored text; encoders read less of it."""


def text_files(source: str | Path) -> list[Path]:
    """The file itself, or all files of a folder and its subfolders, sorted by path; hidden files are skipped.

    Raises:
        BortError: There are none, or one is a table.
    """
    path = Path(source).expanduser()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise BortError("holds no files", file=path)
        if tables := [file for file in files if is_table(file)]:
            say(f"{tables[0]} is no plain text: {len(tables)} tables are left out")
            files = [file for file in files if not is_table(file)]
        if not files:
            raise BortError("holds no plain text, one text a line, but tables", file=path)
    elif not path.is_file():
        raise BortError("no such file or folder", file=path)
    else:
        check_plain(path)
    return files


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
        BortError: A file cannot be read, there is no text, the model cannot be loaded, or `out` holds something else,
            such as an unfinished index of another encoder, even if its folder has the same name.
    """
    files = text_files(source)
    check_apart((("out", str(Path(out) / name)) for name in FILES), map(str, files))
    if not any(line.strip() for line in _lines(files, lambda _: None)):
        raise BortError("holds no texts", file=source)
    states = [file.stat() for file in files]
    sources = tuple(
        {"name": str(file), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
        for file, state in zip(files, states, strict=True)
    )
    model = located(model)
    with Encoder(model, threads=threads) as encoder:
        made_by = fingerprint_of_model(model)
        description = Description(model, encoder.size, stored, sources=sources, model_sha256=made_by)
        if resume and _is_finished(Path(out), description):
            say(f"{out}: already finished")
            return Index(out)
        writer = IndexWriter(Path(out), description, resume=resume)
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
    known = replace(Description.read(out), count=0, files={})
    if known.model_sha256:  # the same files may have another name
        return replace(known, model=description.model) == description
    earlier = replace(known, model=located(known.model), model_sha256=description.model_sha256)
    return earlier == description


def encoder_of(index: Index, elsewhere: str | None = None) -> Encoder:
    """Open the encoder that an index was made with.

    Args:
        index: The index.
        elsewhere: A model with the same files, which is taken if the encoder's folder has gone.

    Raises:
        BortError: It cannot be loaded, gives vectors of another width, or has other files than then.
    """
    made = index.description
    model, gone = made.model, Path(made.model).is_absolute() and not Path(made.model).is_dir()
    if gone and elsewhere is not None and made.model_sha256 == fingerprint_of_model(elsewhere):
        model = elsewhere
    encoder = Encoder(model)
    if encoder.size != index.size:
        rule = f"gives vectors of another width than the index holds ({index.size})"
        raise BortError(rule, file=model, value=encoder.size)
    if made.model_sha256 not in ("", fingerprint_of_model(model)):
        rule = f"has other files than when the index {index.folder} was made; make the index again"
        raise BortError(rule, file=model)
    return encoder


def _lines(files: list[Path], on_bytes: Callable[[int], None]) -> Iterator[str]:
    """The lines of all files, truncated to `_LONGEST_CHARACTERS`."""
    for line in read_all_lines(files, on_bytes=on_bytes):
        yield line[:_LONGEST_CHARACTERS].replace("\0", " ")
