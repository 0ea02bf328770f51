"""What a shape costs, in closed form: parameters (p̂) and operations of an inference (î), as polynomials of the shape.

Both count the encoder that is kept and served: embeddings and layers. The masked-LM head is for training only.
A transformer is C(B_n(… B_1(A(x)) …)): A are the embeddings, B the layers; the encoder has no C.
"""

from __future__ import annotations

from typing import NamedTuple

from bort.ose.space import Shape

_LAYER_NORM = 7
"""Operations an element: two for the mean and its subtraction, two for the variance, one to divide, two to scale."""
_SOFTMAX = 6
"""Operations a score: scale it, find the greatest, subtract it, exp, sum, divide."""
_GELU = 5
"""Operations an element: x / 2 * (1 + erf(x / sqrt 2))."""


class Split(NamedTuple):
    """A cost, by what bears it: embeddings and what else is there once (A and C), and all layers together (B)."""

    outer: float
    layers: float

    @property
    def total(self) -> float:
        """Of the whole encoder."""
        return self.outer + self.layers


def parameters(shape: Shape, *, vocab_size: int, positions: int = 512) -> Split:
    """Parameters of the encoder, exactly those that the built model has.

    Args:
        shape: Which.
        vocab_size: V, rows of the word embedding.
        positions: Rows of the position embedding.
    """
    h, i = shape.hidden, shape.intermediate
    embeddings = (vocab_size + positions + 1) * h + 2 * h  # one token type; layer norm
    attention = 4 * (h * h + h) + 2 * h
    feed_forward = (h * i + i) + (i * h + h) + 2 * h
    return Split(embeddings, shape.depth * (attention + feed_forward))


def matrix_operations(shape: Shape, *, sequence_length: int) -> int:
    """Additions and multiplications of the matrix products of one text, half of them each."""
    d, _, h, i = shape
    s = sequence_length
    return d * (8 * s * h * h + 4 * s * s * h + 4 * s * h * i)


def other_operations(shape: Shape, *, sequence_length: int) -> Split:
    """Operations that are in no matrix product: biases, softmax, GELU, residuals, layer norms; one an element."""
    d, a, h, i = shape
    s = sequence_length
    layer = a * s * s * _SOFTMAX + s * h * (5 + 2 + 2 * _LAYER_NORM) + s * i * (1 + _GELU)
    return Split(s * h * (2 + _LAYER_NORM), d * layer)


def operations(shape: Shape, *, sequence_length: int) -> Split:
    """All operations of one text of `sequence_length` tokens: additions, multiplications, others, each counted as one.

    The matrix products do not depend on the number of heads; the softmax does.
    """
    other = other_operations(shape, sequence_length=sequence_length)
    return Split(other.outer, matrix_operations(shape, sequence_length=sequence_length) + other.layers)
