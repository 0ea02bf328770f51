"""Reads text sources in blocks of whole lines, each with the position from which reading can resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bort.data.corpus.sources import is_hub
from bort.data.tables.compressed import BROKEN, decompressed, open_stored
from bort.data.tables.lines import LONGEST_ROW_BYTES
from bort.errors import BortError, lines_of

BLOCK_BYTES = 1 << 20


class Interrupted(BortError):
    """Reading stopped for a reason other than the text; the same command can resume where it left off."""


@dataclass(frozen=True)
class Place:
    """Position from which to resume reading.

    Args:
        position: Number of decompressed bytes of a file, or rows of a data set, before it.
        line: Number of the next line of a file, from 1.
    """

    position: int = 0
    line: int = 1


@dataclass(frozen=True)
class Block:
    """A block of whole lines.

    Args:
        text: Bytes of the lines, with line ends.
        first: Number of the first line.
        after: Where the next block begins.
        stored: Bytes of the file, as stored, read so far.
    """

    text: bytes
    first: int
    after: Place
    stored: int = 0


def read_blocks(source: str, place: Place) -> Iterator[Block]:
    """Read a source from a position on, about `BLOCK_BYTES` at a time.

    Block boundaries depend only on the text and the position. Each row of a hub data set is a document.

    Raises:
        BortError: A file cannot be read, a line is too long, or a data set has no column of text.
        Interrupted: A data set cannot be loaded, or the connection breaks off.
    """
    return _of_hub(source, place) if is_hub(source) else _of_file(source, place)


def _of_file(source: str, place: Place) -> Iterator[Block]:
    with open_stored(source) as stored, decompressed(stored, source) as plain:
        line = place.line
        try:
            if place.position and plain is stored:
                plain.seek(place.position)
            elif place.position:
                _skip(plain, place.position)
            position = place.position
            while True:
                lines: list[bytes] = []
                size, first = 0, line
                while size < BLOCK_BYTES and (raw := plain.readline(LONGEST_ROW_BYTES + 1)):
                    if len(raw) > LONGEST_ROW_BYTES:
                        rule = f"the row that begins here must be no longer than {LONGEST_ROW_BYTES:,} bytes"
                        raise BortError(rule, file=source, line=line)
                    lines.append(raw)
                    size, line = size + len(raw), line + 1
                if not lines:
                    return
                position += size
                yield Block(b"".join(lines), first, Place(position, line), stored.tell())
        except BROKEN as error:
            rule = f"the data is damaged and cannot be read from here on ({error})"
            raise BortError(rule, file=source, line=line) from None


def _skip(plain: Any, count: int) -> None:
    """Read and discard bytes; a compressed file offers no other way to reach a position."""
    while count and (passed := len(plain.read(min(count, BLOCK_BYTES)))):
        count -= passed


def _of_hub(source: str, place: Place) -> Iterator[Block]:
    name, _, split = source.partition(":")  # a slice has more colons
    name, _, config = name.partition("@")
    import datasets

    try:
        rows = datasets.load_dataset(name, config or None, split=split, streaming=True)
        if place.position:
            rows = rows.skip(place.position)
        texts: list[bytes] = []
        size, number = 0, place.position
        for number, row in enumerate(rows, start=place.position + 1):
            text = row.get("text")
            if not isinstance(text, str):
                raise BortError("a corpus needs a column of text", file=source, line=number, column="text", value=text)
            kept = "\n".join(line for line in text.split("\n") if line.strip())
            texts.append(kept.encode() + b"\n\n")
            size += len(texts[-1])
            if size >= BLOCK_BYTES:
                yield Block(b"".join(texts), number, Place(number, number))
                texts, size = [], 0
        if texts:
            yield Block(b"".join(texts), number, Place(number, number))
    except BortError:
        raise
    except Exception as error:  # offline, unknown, gated, cut off: each raises its own class
        told = lines_of(error)[0]
        raise Interrupted(f"the data set cannot be loaded from the hub: {told}", file=source) from None
