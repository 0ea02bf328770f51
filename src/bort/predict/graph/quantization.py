"""int8: which matrices, their scales, and the ranges of what goes into them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError

Range = tuple[float, float]
"""Least and greatest value."""


@dataclass(frozen=True)
class Quantization:
    """How a model is written in int8.

    Args:
        kept: Blocks that stay in fp32: "embeddings", "layer.0" and so on.
        weight_bits: 7 gives the same answers on every processor; with 8 the 16-bit sums of those without VNNI overflow.
    """

    kept: frozenset[str] = frozenset()
    weight_bits: int = 7

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8):
            raise BortError("must be 7 or 8", setting="weight_bits", value=self.weight_bits)

    def keeping(self, blocks: frozenset[str]) -> Quantization:
        """The same with these blocks in fp32."""
        return dataclasses.replace(self, kept=blocks)

    def keeps(self, name: str) -> bool:
        """Whether a matrix stays in fp32."""
        return any(name == block or name.startswith(f"{block}.") for block in self.kept)


def per_channel(
    weights: NDArray[np.float32], *, axis: int, bits: int = 7
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise symmetrically, each channel by its own scale.

    Args:
        weights: *Shape:* (rows, columns).
        axis: The axis of the channels: 0 for one scale a row, 1 for one a column.
        bits: 8 gives -127 to 127, 7 gives -63 to 63.

    Returns:
        The whole numbers, *shape* (rows, columns), and the scales, *shape* (channels,). Their product is off by at
        most half a scale.
    """
    most = 2 ** (bits - 1) - 1
    greatest = np.abs(weights).max(axis=1 - axis)
    scales = (greatest / most).astype(np.float32)
    # Of a channel of zeros, or of numbers too small for a scale, nothing is left: any scale will do.
    scales[scales < np.finfo(np.float32).tiny] = 1
    shape = (-1, 1) if axis == 0 else (1, -1)
    whole = np.clip(np.rint(weights / scales.reshape(shape)), -most, most).astype(np.int8)
    return whole, scales


def input_scale(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point that map [low, high], widened to hold 0, to 0-255. *Shape:* () each."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)
