"""Learn a teacher's vectors of the texts beside their labels.

The label of a text is a few bits. A sentence encoder's vector says far more of it, and what a linear head on that
vector answers is a function of it; so a student that learns both comes nearer to the teacher on texts that it has not
seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HEAD_OF_VECTORS = "head_of_vectors"
"""Name of the module on a model while it learns."""
VECTOR_WEIGHT = 2.0
"""Of the vectors' loss beside that of the labels; chosen on development data."""


class VectorHead(nn.Module):
    """Maps the encoder's first token to a teacher's vector, linearly.

    Args:
        encoder: Its last outputs are watched.
        width: Of its outputs.
        size: Of the teacher's vectors.
    """

    def __init__(self, encoder: nn.Module, width: int, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, size)
        self._first: Tensor | None = None
        self._hook = encoder.register_forward_hook(self._watch)

    def _watch(self, encoder: nn.Module, inputs: Any, output: Any) -> None:
        self._first = output[0][:, 0]

    def distance(self, vectors: Tensor) -> Tensor:
        """Mean of 1 - cosine between the vectors and what the last batch is mapped to. *Shape:* (batch, D) -> ()."""
        assert self._first is not None
        mapped, self._first = self.map(self._first.to(self.map.weight.dtype)).float(), None
        return 1 - nn.functional.cosine_similarity(mapped, vectors, dim=-1).mean()

    def close(self) -> None:
        """Watch no more."""
        self._hook.remove()


@contextlib.contextmanager
def taught_vectors(model: Any, vectors: NDArray[np.float32] | None) -> Iterator[None]:
    """Give a classifier a `VectorHead` for the time of a block, where there are vectors.

    Args:
        model: The classifier.
        vectors: A teacher's. *Shape:* (examples, D).
    """
    if vectors is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):  # the batches and the dropout stay as they are without vectors
        head = VectorHead(model.base_model, model.config.hidden_size, vectors.shape[1])
    setattr(model, HEAD_OF_VECTORS, head.to(model.device))
    try:
        yield
    finally:
        head.close()
        delattr(model, HEAD_OF_VECTORS)
