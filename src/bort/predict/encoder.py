"""Sentence vectors of one text, a list, or an endless stream, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.encoding import TokenizedExamples
from bort.predict.engine import VectorEngine, open_vector_engine, run_blocks
from bort.predict.inputs import check_readable, shown, texts_given

Vectors = NDArray[np.float32]


class Encoder:
    """A sentence encoder: one vector per text.

    Any number of threads can share an encoder. A text's vector does not depend on the rest of the batch: if the whole
    model is int8, it is bit-identical; in fp32, the same within 1e-5. The vectors of a folder are those of
    sentence-transformers. An exported folder needs neither torch nor transformers.

        >>> with Encoder("bort-nano") as encoder:
        ...     vectors = encoder.encode(["Where is my parcel?", "My package is late.", "Thank you!"], normalize=True)
        >>> vectors.shape
        (3, 384)
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
        True

    Args:
        model: A folder of `bort export`, of `bort pretrain`, of Hugging Face or sentence-transformers, an embedded
            name (bort-nano), or a hub name.
        threads: Threads for the computation and the tokenizer, which keeps the number of its first use in a process; by
            default one per core.

    Raises:
        BortError: The model cannot be loaded, or it was exported as a classifier.
    """

    def __init__(self, model: str, *, threads: int | None = None) -> None:
        self._name = str(model)
        self._engine: VectorEngine | None = open_vector_engine(self._name, threads)
        self.size = self.engine.size
        """Width of a vector."""
        self.max_length = self.engine.max_length
        """Maximum number of tokens of a text; longer texts are cut."""
        self.normalizes = self.engine.normalizes
        """Whether vectors have length 1 by default (`normalize=None`)."""
        self.cut = 0
        """Number of texts cut so far."""
        self._counting = Lock()

    @property
    def engine(self) -> VectorEngine:
        """The engine that runs the model.

        Raises:
            ValueError: The encoder is closed.
        """
        if self._engine is None:
            raise ValueError(f"the encoder of {self._name} is closed")
        return self._engine

    def __enter__(self) -> Encoder:
        """Return the encoder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the model."""
        self.close()

    def close(self) -> None:
        """Release the model and its memory. The encoder cannot be used afterwards.

        Example:
            >>> encoder = Encoder("bort-nano")
            >>> encoder.close()
            >>> encoder.encode("Where is it?")
            Traceback (most recent call last):
            ValueError: the encoder of bort-nano is closed
        """
        self._engine = None

    def encode(
        self, texts: str | Iterable[str], *, batch_size: int | None = None, normalize: bool | None = None
    ) -> Vectors:
        """Encode one text or many.

        Args:
            texts: A text, or any iterable of texts: a list, an array, a column of a data frame.
            batch_size: Number of texts that are tokenised and computed together, sorted by length; by default a few
                hundred, more with many threads.
            normalize: True: scale each vector to length 1, so that dot products are cosines. False: keep the length
                that pooling gives. None: as in the model's folder.

        Returns:
            *Shape:* (texts, `size`), or (`size`,) for one text given as a string.

        Raises:
            BortError: The model's outputs are not finite, or a text holds half of a surrogate pair.
            TypeError: An item is not a string, `texts` is a mapping or a table, or `normalize` is anything else.
            ValueError: `batch_size` is below 1, or the encoder is closed.

        Example:
            >>> Encoder("bort-nano").encode("Where is my parcel?").shape
            (384,)
        """
        if isinstance(texts, str):
            return self._vectors([_example(texts)], self._scales(normalize)).reshape(-1)
        parts = list(self.stream(texts, batch_size=batch_size, normalize=normalize))
        return np.concatenate(parts) if parts else np.zeros((0, self.size), np.float32)

    def stream(
        self, texts: Iterable[str], *, batch_size: int | None = None, normalize: bool | None = None
    ) -> Iterator[Vectors]:
        """Encode batch by batch, in order, holding at most four batches in memory.

        Args:
            texts: Any iterable of texts, read lazily.
            batch_size: Texts per batch except the last; by default a few hundred, more with many threads.
            normalize: See `encode`.

        Yields:
            The vectors of the next batch. *Shape:* (`batch_size`, `size`).

        Raises:
            BortError: The model's outputs are not finite, or a text holds half of a surrogate pair.
            TypeError: An item is not a string, `texts` is a mapping or a table, or `normalize` is anything else.
            ValueError: `batch_size` is below 1, or the encoder is closed.

        Example:
            >>> [part.shape for part in Encoder("bort-nano").stream(["One.", "Two.", "Three."], batch_size=2)]
            [(2, 384), (1, 384)]
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        texts = texts_given(texts)
        scales = self._scales(normalize)
        rows, iterator = batch_size or self.engine.rows_at_once, iter(texts)
        first = [_example(text) for text in islice(iterator, rows)]
        if len(first) < rows:  # these are all
            if first:
                yield self._vectors(first, scales)
            return
        blocks = chain([first], iter(lambda: [_example(text) for text in islice(iterator, rows)], []))
        for encoded, vectors in run_blocks(self.engine, blocks, self.engine.encode):
            yield self._finished(encoded, vectors, scales)

    def told(self) -> Iterator[str]:
        """Messages for the user: how many texts have been cut so far.

        Example:
            >>> encoder = Encoder("bort-nano")
            >>> vector = encoder.encode("Where is it? " * 1000)
            >>> [line.rpartition(": ")[2] for line in encoder.told()]
            ['1']
        """
        if self.cut:
            yield f"texts longer than {self.max_length} tokens, which were cut: {self.cut:,}"

    def _scales(self, normalize: object) -> bool:
        """Whether to scale vectors to length 1."""
        if not isinstance(normalize, bool | np.bool_ | None):
            raise TypeError(f"normalize must be True, False or None, not {normalize!r}")
        return self.normalizes if normalize is None else bool(normalize)

    def _vectors(self, examples: Sequence[Example], scales: bool) -> Vectors:
        encoded = self.engine.encode(examples)
        return self._finished(encoded, self.engine.run(encoded), scales)

    def _finished(self, encoded: TokenizedExamples, vectors: Vectors, scales: bool) -> Vectors:
        """Count the cut texts, and check and scale the engine's vectors."""
        with self._counting:
            self.cut += encoded.cut
        if not np.isfinite(vectors).all():
            rule = "the model's vectors must be finite numbers, and they are not; did its training diverge?"
            raise BortError(rule, file=self._name)
        return of_length_1(vectors) if scales else vectors


def of_length_1(vectors: Vectors) -> Vectors:
    """Scale vectors to length 1, so that dot products are cosines; zero vectors stay zero. *Shape:* (texts, width)."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


def _example(text: object) -> Example:
    if not isinstance(text, str):
        raise TypeError(f"a text must be a string, not {shown(text)}")
    check_readable(text)
    return Example(text)
