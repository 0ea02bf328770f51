"""Learn a teacher's vectors of the texts in addition to their labels.

A label carries only a few bits. A sentence encoder's vector carries far more, and the answer of a linear head on it is
a function of it; so a student that learns both comes closer to the teacher on unseen texts.
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
"""Name of the module on a model during training."""
VECTOR_WEIGHT = 2.0
"""Weight of the vectors' loss relative to that of the labels; chosen on development data."""


class VectorHead(nn.Module):
    """Maps the encoder's first token linearly to a teacher's vector.

    Args:
        encoder: The encoder; a hook records its last output.
        width: Width of its outputs.
        size: Size of the teacher's vectors.
    """

    def __init__(self, encoder: nn.Module, width: int, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, size)
        self._first: Tensor | None = None
        self._hook = encoder.register_forward_hook(self._watch)

    def _watch(self, encoder: nn.Module, inputs: Any, output: Any) -> None:
        self._first = output[0][:, 0]

    def distance(self, vectors: Tensor) -> Tensor:
        """Mean of 1 - cosine between the vectors and the mapped last batch. *Shape:* (batch, D) -> ()."""
        assert self._first is not None
        mapped, self._first = self.map(self._first.to(self.map.weight.dtype)).float(), None
        return 1 - nn.functional.cosine_similarity(mapped, vectors, dim=-1).mean()

    def close(self) -> None:
        """Remove the hook."""
        self._hook.remove()


@contextlib.contextmanager
def taught_vectors(model: Any, vectors: NDArray[np.float32] | None) -> Iterator[None]:
    """Attach a `VectorHead` to a classifier until the end of the block, if there are vectors.

    Args:
        model: The classifier.
        vectors: The teacher's vectors, or None. *Shape:* (examples, D).
    """
    if vectors is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):  # so that batches and dropout are the same as without vectors
        head = VectorHead(model.base_model, model.config.hidden_size, vectors.shape[1])
    setattr(model, HEAD_OF_VECTORS, head.to(model.device))
    try:
        yield
    finally:
        head.close()
        delattr(model, HEAD_OF_VECTORS)
