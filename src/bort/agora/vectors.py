"""Examples as vectors, to say how near they are to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.model.devices import best_device
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.progress import in_parts

Vectors = NDArray[np.float32]


class Embedding:
    """An encoder's pooled vectors of length 1, each text's computed once.

    Args:
        model: A folder, a hub name, or bort-nano.

    Raises:
        BortError: It cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._encoder = EmbeddingTeacher(model, best_device())
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
        """What a linear head looks at: a, and for pairs a, b, |a - b|, a * b side by side."""
        a = self.texts([example.text for example in examples])
        if not examples or examples[0].text_b is None:
            return a
        b = self.texts([example.text_b or "" for example in examples])
        return np.hstack([a, b, np.abs(a - b), a * b])
