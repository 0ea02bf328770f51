"""The cost of a shape in closed form: parameters (p̂) and operations per inference (î), as polynomials of the shape.

Both count the encoder that is kept and served: embeddings and layers. The masked-LM head is for training only.
A transformer is C(B_n(… B_1(A(x)) …)): A is the embeddings, the B are the layers; the encoder has no C.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bort.model.config import Preset
from bort.ose.space import Shape

if TYPE_CHECKING:
    import torch
    from transformers import BertConfig

_LAYER_NORM = 7
"""Operations per element: two for the mean and its subtraction, two for the variance, one to divide, two to scale."""


_SOFTMAX = 6
"""Operations per score: scale it, find the maximum, subtract it, exp, sum, divide."""


_GELU = 5
"""Operations per element: x / 2 * (1 + erf(x / sqrt 2))."""


class Split(NamedTuple):
    """A cost in two parts: embeddings and whatever else exists once (A and C), and all layers together (B)."""

    outer: float
    layers: float

    @property
    def total(self) -> float:
        """The cost of the whole encoder."""
        return self.outer + self.layers


def parameters(shape: Shape, *, vocab_size: int, positions: int = 512, token_types: int = 1) -> Split:
    """Number of parameters of the encoder, exactly as in the built model.

    Args:
        shape: The architecture.
        vocab_size: V, rows of the word embedding, if the shape does not give it.
        positions: Rows of the position embedding.
        token_types: Rows of the token-type embedding.
    """
    d, a, h, i = shape[:4]
    size = Preset(d, a, h, i, shape.vocabulary or vocab_size, positions, token_types=token_types).size()
    return Split(size.embeddings, size.encoder)


def matrix_operations(shape: Shape, *, sequence_length: int) -> int:
    """Operations in the matrix products per text, half of them additions and half multiplications."""
    d, _, h, i = shape[:4]
    s = sequence_length
    return d * (8 * s * h * h + 4 * s * s * h + 4 * s * h * i)


def other_operations(shape: Shape, *, sequence_length: int) -> Split:
    """Operations outside the matrix products: biases and residuals (one per element), softmax, GELU, layer norms."""
    d, a, h, i = shape[:4]
    s = sequence_length
    layer = a * s * s * _SOFTMAX + s * h * (5 + 2 + 2 * _LAYER_NORM) + s * i * (1 + _GELU)
    return Split(s * h * (2 + _LAYER_NORM), d * layer)


def operations(shape: Shape, *, sequence_length: int) -> Split:
    """All operations per text of `sequence_length` tokens: additions, multiplications and others, each counted as one.

    The matrix products do not depend on the number of heads; the softmax does.
    """
    other = other_operations(shape, sequence_length=sequence_length)
    return Split(other.outer, matrix_operations(shape, sequence_length=sequence_length) + other.layers)


_TERMS = ("1", "H", "D", "D A", "D H", "D I", "D H²", "D H I")


_OUTER = 2


LEAST_TIMED = len(_TERMS) + 2
"""Minimum number of timed members: a fit that leaves one out still has more equations than unknowns."""


@dataclass(frozen=True)
class Fit:
    """How well a polynomial predicts the times of members that it was not fitted to (leave-one-out cross-validation).

    Args:
        members: Number of timed members.
        mean_error: Mean of |predicted - timed| / timed.
        worst_error: Maximum of |predicted - timed| / timed.
        spearman: Rank correlation of predicted and timed.
    """

    members: int
    mean_error: float
    worst_error: float
    spearman: float


@dataclass(frozen=True)
class TimePolynomial:
    """Milliseconds per inference, as a polynomial of the shape with non-negative coefficients.

    For a fixed length and batch, the work of a layer grows with H², H I and the number of softmaxes A, that of the
    embeddings with H. Since no coefficient is negative, the time does not decrease along any axis.

    Args:
        coefficients: Milliseconds per unit of 1, H, D, D A, D H, D I, D H², D H I.
        fit: How well it predicts members that it was not fitted to.
    """

    coefficients: tuple[float, ...]
    fit: Fit

    def __call__(self, shape: Shape) -> Split:
        """Milliseconds of the embeddings and of all layers."""
        parts = [weight * term for weight, term in zip(self.coefficients, _terms(shape), strict=True)]
        return Split(sum(parts[:_OUTER]), sum(parts[_OUTER:]))

    def described(self) -> dict[str, Any]:
        """Coefficients by term and the quality of the fit, for the metrics."""
        return {"coefficients_ms": dict(zip(_TERMS, self.coefficients, strict=True)), **vars(self.fit)}


def fit_polynomial(timed: Mapping[Shape, float]) -> TimePolynomial:
    """Fit a polynomial by least squares of the relative errors, so that small members count as much as large ones.

    Args:
        timed: Milliseconds of at least `LEAST_TIMED` members.

    Raises:
        ValueError: There are fewer.
    """
    from scipy.stats import spearmanr

    if len(timed) < LEAST_TIMED:
        raise ValueError(f"needs at least {LEAST_TIMED} timed members, not {len(timed)}")
    shapes, times = list(timed), np.array(list(timed.values()))
    left_out = []
    for place, shape in enumerate(shapes):
        others = [other for other in range(len(shapes)) if other != place]
        weights = _solve([shapes[other] for other in others], times[others])
        left_out.append(float(np.dot(_terms(shape), weights)))
    errors = np.abs(np.array(left_out) - times) / times
    rank = float(spearmanr(left_out, times).statistic)
    fit = Fit(len(shapes), float(errors.mean()), float(errors.max()), rank if math.isfinite(rank) else 0.0)
    return TimePolynomial(tuple(_solve(shapes, times).tolist()), fit)


def sample(members: Sequence[Shape], count: int, seed: int = 0) -> list[Shape]:
    """Choose members to time at random: up to half of them corners of the grid, if there are enough others.

    Args:
        members: The members of the space.
        count: How many; all if there are fewer.
        seed: Random seed.
    """
    least, most = (tuple(pick(axis) for axis in zip(*members, strict=True)) for pick in (min, max))
    corners = [m for m in members if all(v in ends for v, ends in zip(m, zip(least, most, strict=True), strict=True))]
    rng = np.random.default_rng(seed)
    corners = [corners[place] for place in rng.permutation(len(corners))]
    others = [member for member in members if member not in set(corners)]
    others = [others[place] for place in rng.permutation(len(others))]
    half = max(1, count // 2, count - len(others))
    return [*corners[:half], *others][:count]


def _terms(shape: Shape) -> list[float]:
    d, a, h, i = map(float, shape[:4])
    return [1.0, h, d, d * a, d * h, d * i, d * h * h, d * h * i]


def _solve(shapes: Sequence[Shape], times: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls

    relative = np.array([_terms(shape) for shape in shapes]) / times[:, None]
    scale = relative.max(0)
    weights: NDArray[np.float64] = nnls(relative / scale, np.ones(len(times)))[0] / scale
    return weights


_WARMUP = 2


_LEAST_REPEATS, _MOST_REPEATS = 5, 30


_SECONDS = 0.25


def time_ms(config: BertConfig, *, batch_size: int, sequence_length: int, device: torch.device) -> float:
    """Median milliseconds per inference of the encoder, with random weights in fp32, on texts without padding.

    Args:
        config: Configuration of the encoder.
        batch_size: Texts per inference.
        sequence_length: Tokens per text.
        device: Where it runs.
    """
    import torch
    from transformers import BertModel

    with torch.random.fork_rng(), torch.device(device):
        model = BertModel(config, add_pooling_layer=False).eval()
        ids = torch.randint(5, max(6, config.vocab_size), (batch_size, sequence_length))
    seconds: list[float] = []
    with torch.inference_mode():
        while len(seconds) < _WARMUP + _LEAST_REPEATS or (
            sum(seconds) < _SECONDS and len(seconds) < _WARMUP + _MOST_REPEATS
        ):
            started = time.perf_counter()
            model(input_ids=ids)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[_WARMUP:])
