"""New points near mistakes: made by transforms or a generator, or found among unlabelled texts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.agora.rounds import Made
from bort.agora.transforms import Transform
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.model.devices import best_device
from bort.model.pair_features import pair_features
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.progress import bar, in_parts

Vectors = NDArray[np.float32]
_CANDIDATES = 4
"""Number of candidates per text taken; the most disputed ones are taken."""
_KEPT = 512
"""Number of texts that are ranked for a mistake at a time; few need more."""
_MOST_COSINES = 1 << 26
"""Maximum number of cosines in memory."""


class Embedding:
    """Pooled unit vectors of an encoder, computed once per text.

    Args:
        model: A folder, a hub name, or bort-nano.
        bf16: Whether to compute in bf16.

    Raises:
        BortError: The model cannot be loaded.
    """

    def __init__(self, model: str, *, bf16: bool = False) -> None:
        self.model = model
        self._encoder = EmbeddingTeacher(model, best_device(), bf16=bf16)
        self._known: dict[str, Vectors] = {}

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts. *Shape:* (texts, D)."""
        new = sorted({*texts} - self._known.keys(), key=lambda text: (len(text), text))
        for part in in_parts(f"{self.model} reads texts", new):
            vectors, _, _ = self._encoder.encode(part)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
            self._known.update(zip(part, vectors, strict=True))
        return (
            np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, self._encoder.size), np.float32)
        )

    def points(self, examples: Sequence[Example]) -> Vectors:
        """Return unit vectors, whose dot products are cosines; for pairs, the mean of the two texts' cosines."""
        a = self.texts([example.text for example in examples])
        if not examples or examples[0].text_b is None:
            return a
        b = self.texts([example.text_b or "" for example in examples])
        return np.hstack([a, b]) / np.float32(np.sqrt(2))

    def features(self, examples: Sequence[Example]) -> Vectors:
        """Return the input of a linear head: a text's vector, or the `pair_features` of two."""
        a = self.texts([example.text for example in examples])
        if not examples or examples[0].text_b is None:
            return a
        b = self.texts([example.text_b or "" for example in examples])
        return pair_features(a, b)


class Near:
    """Makes and finds points near mistakes.

    Args:
        transforms: Transforms by name, one of which is sampled at random per point.
        made: Points to make per mistake.
        embedding: Measures how near a point is.
        bounds: Minimum and maximum cosine between a mistake and a point made from it.
        pool: Unlabelled texts.
        found: Texts to take from the pool per mistake, among the nearest; none is taken twice.
        whole: A pool of at most this many texts is taken as a whole, each text for its nearest mistake.
        made_from: Identities of the mistakes that points are made from; by default all. A made text is nearly a copy,
            so it must not come from the data that choose between models.
        written: Writes more points, a list for each mistake; they must lie within the same bounds.
        disputed: Returns how much models disagree about texts. Among the texts nearest to a mistake, several times as
            many as needed, the most disputed are taken; without it, the nearest. *Shape:* -> (examples,).
    """

    def __init__(
        self,
        transforms: Mapping[str, Transform],
        *,
        made: int,
        embedding: Embedding,
        bounds: tuple[float, float],
        pool: Sequence[Example] = (),
        found: int = 0,
        whole: int = 0,
        made_from: AbstractSet[Hashable] | None = None,
        written: Callable[[Sequence[Example], random.Random], Sequence[Sequence[Example]]] | None = None,
        disputed: Callable[[Sequence[Example]], NDArray[Any]] | None = None,
    ) -> None:
        self.transforms, self.made, self.embedding, self.bounds = transforms, made, embedding, bounds
        self.found, self.whole, self.made_from = found, whole, made_from
        self.written, self.disputed = written, disputed
        self.pool = dict[Hashable, Example]()
        for example in pool:
            self.pool.setdefault(identity(example), example)

    def __call__(self, mistakes: Sequence[Example], rng: random.Random, known: AbstractSet[Hashable]) -> Made[Example]:
        """Return points for each mistake, first those made, then those found.

        Args:
            mistakes: The mistakes.
            rng: Random generator.
            known: Identities of texts in the pool to skip.
        """
        near, dropped = self._make(mistakes, rng)
        for points, more in zip(near, self._find(mistakes, known), strict=True):
            points.extend(more)
        return Made(near, dict(dropped))

    def _make(self, mistakes: Sequence[Example], rng: random.Random) -> tuple[list[list[Example]], Counter[str]]:
        names, dropped = sorted(self.transforms), Counter[str]()
        tried: list[tuple[int, Example]] = []
        with bar("making new texts", len(mistakes)) as shown:
            for parent, mistake in enumerate(mistakes):
                for _ in range(self.made if names and self._makes_from(mistake) else 0):
                    point = self.transforms[rng.choice(names)](mistake, rng)
                    if identity(point) == identity(mistake):
                        dropped["nothing to change"] += 1
                    else:
                        tried.append((parent, point))
                shown.update(parent + 1)
        if self.written is not None:
            parents = [parent for parent, mistake in enumerate(mistakes) if self._makes_from(mistake)]
            written = self.written([mistakes[parent] for parent in parents], rng)
            for parent, points in zip(parents, written, strict=True):
                tried.extend((parent, point) for point in points)
        near: list[list[Example]] = [[] for _ in mistakes]
        if tried:
            theirs = self.embedding.points(mistakes)[[parent for parent, _ in tried]]
            cosines = np.sum(theirs * self.embedding.points([point for _, point in tried]), axis=-1)
            for (parent, point), cosine in zip(tried, cosines.tolist(), strict=True):
                if cosine < self.bounds[0]:
                    dropped["too far from the mistake"] += 1
                elif cosine > self.bounds[1]:
                    dropped["too near to the mistake"] += 1
                else:
                    near[parent].append(point)
        return near, dropped

    def _makes_from(self, mistake: Example) -> bool:
        return self.made_from is None or identity(mistake) in self.made_from

    def _find(self, mistakes: Sequence[Example], known: AbstractSet[Hashable]) -> list[list[Example]]:
        """Let the mistakes choose in turn, so that the first does not take all texts."""
        near: list[list[Example]] = [[] for _ in mistakes]
        left = [example for name, example in self.pool.items() if name not in known]
        whole = len(self.pool) <= self.whole
        if not (left and mistakes and (self.found or whole)):
            return near
        theirs, texts = self.embedding.points(mistakes), self.embedding.points(left)
        if whole:
            for example, parent in zip(left, (theirs @ texts.T).argmax(0).tolist(), strict=True):
                near[parent].append(example)
            return near
        most = _CANDIDATES * self.found
        ranking = _Ranking(theirs, texts, max(_KEPT, most))
        order = ranking.first()
        if self.disputed is not None:
            order = np.hstack([self._by_dispute(self.disputed, order[:, :most], left), order[:, most:]])
        choices, gone = [row.tolist()[::-1] for row in order], np.zeros(len(left), dtype=bool)
        for _ in range(self.found):
            for parent, chosen in enumerate(near):
                while choices[parent] and gone[choices[parent][-1]]:
                    choices[parent].pop()
                if not choices[parent]:
                    choices[parent] = ranking.of(parent, np.flatnonzero(~gone)).tolist()[::-1]
                if choices[parent]:
                    place = choices[parent].pop()
                    gone[place] = True
                    chosen.append(left[place])
        return near

    @staticmethod
    def _by_dispute(
        disputed: Callable[[Sequence[Example]], NDArray[Any]], nearest: NDArray[np.intp], left: Sequence[Example]
    ) -> NDArray[np.intp]:
        """Sort candidates, the most disputed first, on ties the nearest. *Shape:* as `nearest`."""
        places, which = np.unique(nearest, return_inverse=True)
        by_text = disputed([left[place] for place in places.tolist()])[which.reshape(nearest.shape)]
        return np.take_along_axis(nearest, np.argsort(-by_text, axis=1, kind="stable"), 1)


class _Ranking:
    """Ranks texts for each mistake, the nearest first, on ties the first.

    All ranks of all mistakes would take gigabytes, so only the first are found, and more on demand.

    Args:
        mistakes: Vectors of the mistakes. *Shape:* (mistakes, D).
        texts: Vectors of the texts. *Shape:* (texts, D).
        most: Number of texts to rank at a time.
    """

    def __init__(self, mistakes: Vectors, texts: Vectors, most: int) -> None:
        self._mistakes, self._texts, self._most = mistakes, texts, most
        self._cosines: Vectors | None = None

    def first(self) -> NDArray[np.intp]:
        """Return the places of the nearest texts. *Shape:* (mistakes, most), with fewer columns for fewer texts."""
        rows = max(1, _MOST_COSINES // len(self._texts))
        found: list[NDArray[np.intp]] = []
        for start in range(0, len(self._mistakes), rows):
            cosines = self._mistakes[start : start + rows] @ self._texts.T
            found.extend(map(self._nearest, cosines))
            if rows >= len(self._mistakes):
                self._cosines = cosines
        return np.stack(found)

    def of(self, mistake: int, free: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the places of the texts nearest to a mistake, among free ones in ascending order."""
        row = self._mistakes[mistake] @ self._texts.T if self._cosines is None else self._cosines[mistake]
        return free[self._nearest(row[free])]

    def _nearest(self, cosines: Vectors) -> NDArray[np.intp]:
        places, away = np.arange(len(cosines)), -cosines
        if self._most < len(away):  # a first cut that keeps all ties with the last, so that the first can win
            last = np.partition(away, self._most - 1)[self._most - 1]
            places = np.flatnonzero(~(away > last))  # NaN is kept, and comes last as in a sort
        return places[np.argsort(away[places], kind="stable")[: self._most]]
