"""The learning rate over a training run."""

from __future__ import annotations


def warmup_then_linear(progress: float, warmup: float) -> float:
    """Factor of the peak learning rate: linear from 0 over the first `warmup` of the run, then linear to 0."""
    if progress < warmup:
        return progress / warmup
    return (1.0 - progress) / (1.0 - warmup) if warmup < 1.0 else 0.0
