"""Sources of text as blocks of whole lines, each with the place in its source from which reading can go on."""

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
    """What stopped the reading is no fault of the text: the same command may go on from where it was."""


@dataclass(frozen=True)
class Place:
    """Where to read on.

    Args:
        position: Plain bytes of a file, or rows of a data set, that lie before.
        line: Number of the line that comes next, from 1.
    """

    position: int = 0
    line: int = 1


@dataclass(frozen=True)
class Block:
    """Some whole lines.

    Args:
        text: Their bytes, with line ends.
        first: Number of the first.
        after: Where the next block begins.
        stored: Bytes of the source, as stored, that were read by then.
    """

    text: bytes
    first: int
    after: Place
    stored: int = 0


def read_blocks(source: str, place: Place) -> Iterator[Block]:
    """Read a source from a place on, about `BLOCK_BYTES` at a time.

    Where blocks end depends on the text and the place alone. Each row of a hub data set is a document.

    Raises:
        BortError: A file that cannot be read, a line that is too long; a data set without text.
        Interrupted: A data set that cannot be loaded, or stops to come.
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
    """Read over what is known; a packed file has no other way to a place inside."""
    while count and (passed := len(plain.read(min(count, BLOCK_BYTES)))):
        count -= passed


def _of_hub(source: str, place: Place) -> Iterator[Block]:
    name, _, split = source.rpartition(":")
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
    except Exception as error:  # offline, unknown, gated, cut off: the library has a class for each
        told = lines_of(error)[0]
        raise Interrupted(f"the data set cannot be loaded from the hub: {told}", file=source) from None
