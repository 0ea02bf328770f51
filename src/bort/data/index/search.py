"""Reads an index: texts by position, and exact nearest-neighbour search in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bort.data.index.layout import ENDS, SCALES, TEXTS, VECTORS, Description
from bort.errors import BortError

Floats = NDArray[np.float32]
_BLOCK_BYTES = 32 * 2**20
"""Size of a block's vectors in fp32."""


class Apart:
    """A set of vectors of length 1 without near-duplicates.

    Args:
        size: Dimension of the vectors.
        distinct: Vectors with this cosine similarity or a higher one are near-duplicates.

    Example:
        >>> apart = Apart(2, distinct=0.9)
        >>> [apart.add(np.array(vector, np.float32)) for vector in ([1, 0], [0, 1], [0.96, 0.28])]
        [True, True, False]
        >>> len(apart)
        2
    """

    def __init__(self, size: int, distinct: float) -> None:
        self._rows, self._count, self._distinct = np.empty((256, size), np.float32), 0, distinct

    def __len__(self) -> int:
        return self._count

    def add(self, vector: Floats) -> bool:
        """Add a vector unless it is a near-duplicate; return whether it was added. *Shape:* (size,)."""
        if self._count and float((self._rows[: self._count] @ vector).max()) >= self._distinct:
            return False
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = vector
        self._count += 1
        return True


class Index:
    """Texts and their vectors, memory-mapped: only accessed data is read.

    Several threads may share an index.

        >>> import bort
        >>> found = bort.index(bort.IndexArguments("texts.txt", "pool"))
        >>> index = Index("pool")
        >>> vectors = bort.Encoder("bort-nano").encode(["Where is my parcel?"], normalize=True)
        >>> cosines, places = index.search(vectors, k=10)
        >>> places.shape, len(index.texts(places[0]))
        ((1, 10), 10)

    Args:
        folder: Folder written by `bort index`.

    Raises:
        BortError: The folder holds no finished index, or a file has the wrong size.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.description = Description.read(self.folder)
        stored, count = self.description, self.description.count
        for name, known in stored.files.items():
            path = self.folder / Path(name).name
            if not path.is_file() or path.stat().st_size != known.get("bytes"):
                raise BortError("is not as long as index.json says; make the index again", file=path)
        for name, length in stored.lengths.items():
            if stored.files.get(name, {}).get("bytes") != length:
                raise BortError("does not fit the number of texts; make the index again", file=self.folder / name)
        kind = np.dtype("i1" if stored.stored == "int8" else "<f2")
        self._vectors = self._mapped(VECTORS, kind).reshape(count, stored.size)
        self._scales = self._mapped(SCALES, np.dtype("<f4"))
        self._texts, self._ends = self._mapped(TEXTS, np.dtype("u1")), self._mapped(ENDS, np.dtype("<i8"))

    def __len__(self) -> int:
        return self.description.count

    @property
    def size(self) -> int:
        """Dimension of the vectors."""
        return self.description.size

    def check(self) -> None:
        """Compare every file with its checksum, which reads all of them.

        Raises:
            BortError: A file differs from what was written.

        Example:
            >>> import bort
            >>> found = bort.index(bort.IndexArguments("texts.txt", "pool"))
            >>> Index("pool").check()
        """
        import hashlib

        for name, known in self.description.files.items():
            with open(self.folder / name, "rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() != known.get("sha256"):
                    raise BortError("is not what was written; make the index again", file=self.folder / name)

    def texts(self, places: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Return the texts at some positions.

        Raises:
            BortError: The bytes there are not UTF-8.
            ValueError: A position is negative, such as the -1 of `search`, or too high.

        Example:
            >>> import bort
            >>> found = bort.index(bort.IndexArguments("texts.txt", "pool"))
            >>> Index("pool").texts([0]) == [open("texts.txt").readline().strip()]
            True
        """
        found = []
        for place in self._checked(places).tolist():
            start = int(self._ends[place - 1]) if place else 0
            try:
                found.append(self._texts[start : int(self._ends[place])].tobytes().decode())
            except UnicodeDecodeError:
                rule = f"does not hold UTF-8 where {ENDS} says; make the index again"
                raise BortError(rule, file=self.folder / TEXTS) from None
        return found

    def vectors(self, places: Sequence[int] | NDArray[np.int64] | slice) -> Floats:
        """Return the vectors at some positions, scaled to length 1. *Shape:* (places, `size`).

        Raises:
            ValueError: A position is negative, such as the -1 of `search`, or too high; a slice is never refused.

        Example:
            >>> import bort
            >>> found = bort.index(bort.IndexArguments("texts.txt", "pool"))
            >>> Index("pool").vectors([0, 5]).shape
            (2, 384)
        """
        if not isinstance(places, slice):
            places = self._checked(places)
        rows: Floats = self._vectors[places].astype(np.float32) * self._scales[places][:, None]
        return rows

    def search(self, vectors: Floats, k: int, *, distinct: float | None = None) -> tuple[Floats, NDArray[np.int64]]:
        """Find the texts with the highest cosine similarity to each query; ties go to the lower position.

        Args:
            vectors: Query vectors of length 1, so that dot products are cosines. *Shape:* (queries, `size`).
            k: Number of texts per query.
            distinct: Skip texts with this cosine or a higher one to a text already found for the same query.

        Returns:
            Cosines and positions, best first. *Shape:* (queries, k) each; fewer columns if the index holds fewer
            texts. With `distinct` a row may end in positions of -1 with cosines of -inf; `places[0][places[0] >= 0]`
            leaves them out.

        Raises:
            ValueError: `k` is below 1, or the vectors have another dimension.

        Example:
            >>> import bort
            >>> found = bort.index(bort.IndexArguments("texts.txt", "pool"))
            >>> index = Index("pool")
            >>> cosines, places = index.search(index.vectors([7]), k=3)
            >>> int(places[0, 0])  # itself
            7
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"vectors must have the shape (queries, {self.size}), not {vectors.shape}")
        if distinct is None:
            return self._nearest(vectors.astype(np.float32), min(k, len(self)))
        k, asked = min(k, len(self)), 2 * k
        found = np.full((len(vectors), k), -1, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        lacking = np.arange(len(vectors))  # queries that need more neighbours
        while len(lacking):
            cosines, places = self._nearest(vectors[lacking].astype(np.float32), min(asked, len(self)))
            rows = [self._apart(row, k, distinct) for row in places]
            for place, (query, row) in enumerate(zip(lacking, rows, strict=True)):
                found[query, : len(row)] = places[place, row]
                scores[query, : len(row)] = cosines[place, row]
            if asked >= len(self):
                break
            lacking = lacking[[len(row) < k for row in rows]]
            asked *= 4
        return scores, found

    def _nearest(self, vectors: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        # With `size` queries at a time, the cosines to a block take as much memory as its vectors. At least one group,
        # so that no queries give empty arrays.
        groups = [vectors[at : at + self.size] for at in range(0, max(1, len(vectors)), max(1, self.size))]
        found = [(np.zeros((len(group), 0), np.float32), np.zeros((len(group), 0), np.int64)) for group in groups]
        rows = max(1, _BLOCK_BYTES // (4 * max(1, self.size)))
        for start in range(0, len(self), rows):
            block, numbers = self.vectors(slice(start, start + rows)).T, np.arange(start, min(start + rows, len(self)))
            for number, group in enumerate(groups):
                found[number] = _best(*found[number], group @ block, numbers, k)
        return np.concatenate([best for best, _ in found]), np.concatenate([places for _, places in found])

    def _checked(self, places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.asarray(places, np.int64)
        if (wrong := found[(found < 0) | (found >= len(self))]).size:
            raise ValueError(f"places must be from 0 to {len(self) - 1}, not {wrong[0]}")
        return found

    def _apart(self, places: NDArray[np.int64], k: int, distinct: float) -> list[int]:
        """Return the columns to keep, so that none is a near-duplicate of an earlier one."""
        vectors, apart = self.vectors(places), Apart(self.size, distinct)
        kept: list[int] = []
        for column, vector in enumerate(vectors):
            if apart.add(vector):
                kept.append(column)
                if len(kept) == k:
                    break
        return kept

    def _mapped(self, name: str, dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
        path = self.folder / name
        if not path.stat().st_size:  # an empty file cannot be mapped
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r")


def _best(
    best: Floats, places: NDArray[np.int64], cosines: Floats, numbers: NDArray[np.int64], k: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Keep the k best of those so far and of a block. *Shapes:* (queries, so far) twice, (queries, block), (block,)."""
    best = np.concatenate([best, cosines], axis=1)
    places = np.concatenate([places, np.broadcast_to(numbers, cosines.shape)], axis=1)
    if best.shape[1] > k:  # a first cut that keeps all ties with the k-th, so that the earliest can win
        least = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k]
        kept = (best >= least[:, None]).any(0)
        best, places = best[:, kept], places[:, kept]
    order = np.argsort(-best, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(best, order, 1), np.take_along_axis(places, order, 1)
