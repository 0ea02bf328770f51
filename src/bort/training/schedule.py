"""How far a training run is, by steps or by the clock, and the learning rate that follows from it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bort.training import processes


@dataclass
class Clock:
    """Progress from 0 to 1: the larger of steps done over `max_steps` and time passed over `max_seconds`.

    Args:
        max_steps: Optimiser steps, or None where only time counts.
        max_seconds: Training time over all resumed parts, or None where only steps count.
        elapsed: Seconds of earlier parts of a resumed run.
    """

    max_steps: int | None
    max_seconds: float | None
    elapsed: float = 0.0
    _started: float | None = field(default=None, repr=False)
    _read: tuple[int, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin to count time."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Training seconds so far, earlier parts included."""
        return self.elapsed + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps, at most 1.

        Where time counts it is the first process's, read once a step, so that all processes get the same answer.
        """
        shares = [0.0]
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.max_seconds is not None:
            if self._read is None or self._read[0] != step:
                self._read = step, processes.from_first(self.seconds())
            shares.append(self._read[1] / self.max_seconds)
        return min(1.0, max(shares))


def warmup_then_linear(progress: float, warmup: float) -> float:
    """Factor of the peak learning rate: linear from 0 over the first `warmup` of the run, then linear to 0."""
    if progress < warmup:
        return progress / warmup
    return (1.0 - progress) / (1.0 - warmup) if warmup < 1.0 else 0.0
