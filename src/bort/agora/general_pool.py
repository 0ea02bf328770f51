"""A large pool of any texts: each round adds those nearest to the mistakes and the classes, labelled by the teacher."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bort.agora.rounds import Made
from bort.data.index.layout import NAME
from bort.data.index.search import Apart, Index
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.predict.encoder import of_length_1
from bort.predict.indexing import build_index, encoder_of, text_files

Vectors = NDArray[np.float32]
Found = Callable[[Sequence[Example], random.Random, AbstractSet[Hashable]], Made[Example]]
_MOST_SEARCHED = 4096
"""Number of nearest neighbours to search per query if nearer ones are already known."""
_SHARED = 4000
"""Default number of texts of all classes together; a teacher's encoder reads them in a few minutes."""


class GeneralPool:
    """Finds texts in an index near mistakes, and near the centroid of each class.

    The mistakes of a class and its centroid choose in turn, the nearest text first, until the class has its share.
    Near-duplicates of chosen texts are skipped.

    Args:
        index: The texts.
        encode: Returns unit vectors of the index's encoder. *Shape:* -> (texts, width).
        train: The training data, whose labels are the classes; a regression has one class.
        per_mistake: Texts per mistake and round.
        per_class: Texts per class and round, including those of its mistakes; None: all classes share 4,000.
        distinct: Skip a text whose cosine to a text chosen in the same round is this or greater.
        classes: Whether labels are classes.
    """

    def __init__(
        self,
        index: Index,
        encode: Callable[[Sequence[str]], Vectors],
        train: Sequence[Example],
        *,
        per_mistake: int,
        per_class: int | None,
        distinct: float,
        classes: bool = True,
    ) -> None:
        self.index, self.encode, self.classes = index, encode, classes
        self.per_mistake, self.distinct = per_mistake, distinct
        vectors = encode([example.text for example in train])
        members: dict[str, list[int]] = {}
        for place, example in enumerate(train):
            for name in self._classes(example):
                members.setdefault(name, []).append(place)
        means = of_length_1(np.stack([vectors[places].mean(0) for places in members.values()]))
        self.centroids: dict[str, Vectors] = dict(zip(members, means, strict=True))
        self.per_class = per_class or max(1, _SHARED // len(members))

    def __call__(self, mistakes: Sequence[Example], known: AbstractSet[Hashable]) -> list[list[Example]]:
        """Find texts for each mistake; those near the centroid of a class go to the nearest of its mistakes.

        Args:
            mistakes: The mistakes, with their true labels.
            known: Identities of texts to skip.
        """
        near: list[list[Example]] = [[] for _ in mistakes]
        if not mistakes or not len(self.index):
            return near
        theirs = self.encode([mistake.text for mistake in mistakes])
        near_mistakes = self._unknown(theirs, self.per_mistake, known)
        near_classes = self._unknown(np.stack([*self.centroids.values()]), self.per_class, known)
        near_class_of = dict(zip(self.centroids, near_classes, strict=True))
        # Classes that the training data lack have mistakes, but no centroid.
        names = dict.fromkeys([*self.centroids, *(name for each in mistakes for name in self._classes(each))])
        taken, chosen = set(known), Apart(self.index.size, self.distinct)
        for name in names:
            own = [place for place, mistake in enumerate(mistakes) if name in self._classes(mistake)]
            among = own or range(len(mistakes))
            ranked = [*(near_mistakes[place] for place in own), near_class_of.get(name, [])]
            left = [*[self.per_mistake] * len(own), self.per_class]
            for query, text, vector in self._chosen(ranked, left, taken, chosen):
                parent = own[query] if query < len(own) else among[int(np.argmax(theirs[list(among)] @ vector))]
                near[parent].append(Example(text))
        return near

    def _chosen(
        self, ranked: Sequence[Sequence[int]], left: list[int], taken: set[Hashable], chosen: Apart
    ) -> Iterator[tuple[int, str, Vectors]]:
        """Yield query, text and vector of each text chosen for a class, and add it to `taken` and `chosen`."""
        most = len(chosen) + self.per_class
        for rank in range(max(map(len, ranked), default=0)):
            for query, places in enumerate(ranked):
                if rank >= len(places) or not left[query]:
                    continue
                place = places[rank : rank + 1]
                [text], [vector] = self.index.texts(place), self.index.vectors(place)
                name = identity(Example(text))
                if name in taken or not chosen.add(vector):
                    continue
                taken.add(name)
                left[query] -= 1
                yield query, text, vector
                if len(chosen) >= most:
                    return

    def _unknown(self, queries: Vectors, wanted: int, known: AbstractSet[Hashable]) -> list[list[int]]:
        """Return places of unknown texts per query, nearest first; more than wanted, as other queries take some."""
        if not wanted or not len(queries):
            return [[] for _ in queries]
        spare = min(wanted * (len(self.centroids) + 1), max(2 * wanted, _MOST_SEARCHED))
        asked, most = spare, max(_MOST_SEARCHED, spare)
        while True:
            _, places = self.index.search(queries, asked, distinct=self.distinct)
            found = [
                [place for place in row if place >= 0 and self._name(place) not in known] for row in places.tolist()
            ]
            if all(len(row) >= spare for row in found) or asked >= min(most, len(self.index)):
                return found
            asked = min(most, 4 * asked)

    def _name(self, place: int) -> Hashable:
        return identity(Example(self.index.texts([place])[0]))

    def _classes(self, example: Example) -> tuple[str, ...]:
        """Return the classes of an example: one per label in a multilabel task, where no labels are a class too."""
        if not self.classes:
            return ("",)
        return (example.label or ("",)) if isinstance(example.label, tuple) else (str(example.label),)


def beside(near: Found, pool: GeneralPool) -> Found:
    """Add the texts of a general pool after a source's own points."""

    def found(mistakes: Sequence[Example], rng: random.Random, known: AbstractSet[Hashable]) -> Made[Example]:
        made = near(mistakes, rng, known)
        more = pool(mistakes, known | {identity(point) for points in made.near for point in points})
        return Made([[*own, *theirs] for own, theirs in zip(made.near, more, strict=True)], made.dropped)

    return found


def check_general_pool(arguments: FinetuneArguments, train: Sequence[Example]) -> dict[str, str]:
    """Check the pool at the start of a run.

    Args:
        arguments: Settings of the run.
        train: The training data.

    Returns:
        Under "pool" the checksums of an index, which a resumed run compares; empty if there is no index yet.

    Raises:
        BortError: The training data are pairs, or the pool is damaged or missing.
    """
    if arguments.pool is None:
        return {}
    if train[0].text_b is not None:
        raise BortError("is for single texts, and the training data are pairs", setting="pool", value=arguments.pool)
    if not (Path(arguments.pool) / NAME).is_file():
        text_files(arguments.pool)
        return {}
    files = Index(arguments.pool).description.files
    return {"pool": " ".join(str(files[name]["sha256"]) for name in sorted(files))}


def open_general_pool(
    arguments: FinetuneArguments, train: Sequence[Example], work: Path, *, classes: bool
) -> GeneralPool:
    """Open the index that the settings name, or build one from the texts that they name.

    Args:
        arguments: Settings of the run.
        train: The training data.
        work: Folder for a new index; an unfinished one is continued.
        classes: Whether the task has classes.

    Raises:
        BortError: The index cannot be opened or built, or its encoder cannot be loaded or is another one now.
    """
    assert arguments.pool is not None
    if (Path(arguments.pool) / NAME).is_file():
        index = Index(arguments.pool)
    elif (work / NAME).is_file():
        index = Index(work)
    else:
        index = build_index(arguments.pool, work, arguments.pool_model, resume=True)
    encoder = encoder_of(index, arguments.pool_model)
    return GeneralPool(
        index,
        lambda texts: encoder.encode(texts, normalize=True),
        train,
        per_mistake=arguments.pool_per_mistake,
        per_class=arguments.pool_per_class,
        distinct=arguments.pool_distinct,
        classes=classes,
    )
