"""int8 quantisation: which matrices, their scales, and the ranges of their inputs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST = 127
Range = tuple[float, float]
"""Minimum and maximum."""


@dataclass(frozen=True)
class Quantization:
    """Settings of a model's int8 graph.

    Args:
        kept: Blocks that stay in fp32: "embeddings", "layer.0" and so on.
    """

    kept: frozenset[str] = frozenset()

    def keeping(self, blocks: frozenset[str]) -> Quantization:
        """A copy with these blocks in fp32."""
        return dataclasses.replace(self, kept=blocks)

    def keeps(self, name: str) -> bool:
        """Whether a matrix stays in fp32."""
        return any(name == block or name.startswith(f"{block}.") for block in self.kept)


def per_channel(weights: NDArray[np.float32], *, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise symmetrically, with one scale per channel.

    Args:
        weights: *Shape:* (rows, columns).
        axis: Axis of the channels: 0 for one scale per row, 1 for one per column.

    Returns:
        Integers from -127 to 127, *shape* (rows, columns), and the scales, *shape* (channels,). Their product differs
        from the weights by at most half a scale.
    """
    greatest = np.abs(weights).max(axis=1 - axis)
    scales = (greatest / _MOST).astype(np.float32)
    # A channel of zeros, or of numbers too small for a scale, becomes all zeros: any scale will do.
    scales[scales < np.finfo(np.float32).tiny] = 1
    shape = (-1, 1) if axis == 0 else (1, -1)
    whole = np.clip(np.rint(weights / scales.reshape(shape)), -_MOST, _MOST).astype(np.int8)
    return whole, scales


def input_scale(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point that map [low, high], extended to include 0, to 0-255. *Shape:* () each."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)
