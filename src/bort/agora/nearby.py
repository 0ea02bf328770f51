"""New points near mistakes: made by transformations, or found among texts without labels."""

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
from bort.data.tables.checks import fold_text
from bort.data.tables.examples import Example
from bort.model.devices import best_device
from bort.model.pair_features import pair_features
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.progress import bar, in_parts

Vectors = NDArray[np.float32]
_CANDIDATES = 4
"""Of so many times the texts that are taken, the most disputed are."""


class Embedding:
    """An encoder's pooled vectors of length 1, each text's computed once.

    Args:
        model: A folder, a hub name, or bort-nano.
        bf16: Whether it computes in bf16.

    Raises:
        BortError: It cannot be loaded.
    """

    def __init__(self, model: str, *, bf16: bool = False) -> None:
        self.model = model
        self._encoder = EmbeddingTeacher(model, best_device(), bf16=bf16)
        self._known: dict[str, Vectors] = {}

    def texts(self, texts: Sequence[str]) -> Vectors:
        """*Shape:* (texts, D)."""
        new = sorted({*texts} - self._known.keys(), key=lambda text: (len(text), text))
        for part in in_parts(f"{self.model} reads texts", new):
            vectors, _, _ = self._encoder.encode(part)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
            self._known.update(zip(part, vectors, strict=True))
        return (
            np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, self._encoder.size), np.float32)
        )

    def points(self, examples: Sequence[Example]) -> Vectors:
        """Vectors of length 1 whose products are cosines; of pairs the mean of the two texts' cosines."""
        a = self.texts([example.text for example in examples])
        if not examples or examples[0].text_b is None:
            return a
        b = self.texts([example.text_b or "" for example in examples])
        return np.hstack([a, b]) / np.float32(np.sqrt(2))

    def features(self, examples: Sequence[Example]) -> Vectors:
        """What a linear head looks at: a text's vector, or the `pair_features` of two."""
        a = self.texts([example.text for example in examples])
        if not examples or examples[0].text_b is None:
            return a
        b = self.texts([example.text_b or "" for example in examples])
        return pair_features(a, b)


def identity(example: Example) -> Hashable:
    """Texts that are the same for a reader (`fold_text`) are the same point."""
    return fold_text(example.text), fold_text(example.text_b or "")


class Near:
    """Makes points near mistakes, and finds some.

    Args:
        transforms: How points are made, by name; each time one of them is drawn.
        made: Points to make of each mistake.
        embedding: Says how near a point is.
        bounds: Least and greatest cosine between a mistake and a point made of it.
        pool: Texts without labels.
        found: Texts to take from the pool for each mistake, of the nearest ones; none is taken for two.
        whole: A pool of up to so many texts is taken whole, each text for the mistake that it is nearest to.
        made_from: Identities of the mistakes that points are made from; by default all. One that is made from a text is
            hardly another one: what chooses between models must not be made from the data that choose.
        written: Writes more points for each mistake, which are held to the same bounds; a list for each.
        disputed: How far models disagree about texts. Of the nearest to a mistake, several times as many as are taken,
            those go first that are disputed most; without it, the nearest. *Shape:* -> (examples,).
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
        """Points for each mistake, those made before those found.

        Args:
            mistakes: Near which.
            rng: Source of chance.
            known: Identities that nothing is taken of from the pool.
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
        """The mistakes choose in turn, so that no first one takes all."""
        near: list[list[Example]] = [[] for _ in mistakes]
        left = [example for name, example in self.pool.items() if name not in known]
        whole = len(self.pool) <= self.whole
        if not (left and mistakes and (self.found or whole)):
            return near
        cosines = self.embedding.points(mistakes) @ self.embedding.points(left).T  # (mistakes, left)
        if whole:
            for example, parent in zip(left, cosines.argmax(0).tolist(), strict=True):
                near[parent].append(example)
            return near
        order = np.argsort(-cosines, axis=1, kind="stable")
        if self.disputed is not None:
            most = _CANDIDATES * self.found
            order = np.hstack([self._by_dispute(self.disputed, order[:, :most], left), order[:, most:]])
        place, gone = [0] * len(mistakes), np.zeros(len(left), dtype=bool)
        for _ in range(self.found):
            for parent, choices in enumerate(order):
                while place[parent] < len(left) and gone[choices[place[parent]]]:
                    place[parent] += 1
                if place[parent] < len(left):
                    chosen = int(choices[place[parent]])
                    gone[chosen] = True
                    near[parent].append(left[chosen])
        return near

    @staticmethod
    def _by_dispute(
        disputed: Callable[[Sequence[Example]], NDArray[Any]], nearest: NDArray[np.intp], left: Sequence[Example]
    ) -> NDArray[np.intp]:
        """Candidates in the order of how far they are disputed, of equals the nearest first. *Shape:* as `nearest`."""
        places, which = np.unique(nearest, return_inverse=True)
        by_text = disputed([left[place] for place in places.tolist()])[which.reshape(nearest.shape)]
        return np.take_along_axis(nearest, np.argsort(-by_text, axis=1, kind="stable"), 1)
