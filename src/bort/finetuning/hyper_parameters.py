"""Hyper-parameters and limits of a training run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bort.finetuning.arguments import FinetuneArguments

_USUAL_ROWS = 200_000
_PASSES = 3
"""Cost of training on an example, in forward passes: one forward, and a backward pass that costs two."""


@dataclass(frozen=True)
class HyperParameters:
    """One combination of the grid.

    Attributes:
        learning_rate: Peak learning rate.
        seed: Random seed of the head's weights, the dropout and the order of the data.
        weight_decay: Decoupled weight decay.
        warmup: Share of the longest possible run during which the learning rate rises.
        batch_size: Examples per step.
    """

    learning_rate: float
    seed: int
    weight_decay: float
    warmup: float
    batch_size: int

    def __str__(self) -> str:
        return shown_theta(asdict(self))


def shown_theta(values: Mapping[str, float]) -> str:
    """Format settings of a combination for display: fractions to six digits, whole numbers exactly.

    Example:
        >>> shown_theta({"learning_rate": 5e-4, "seed": 20240501})
        'learning_rate=0.0005 seed=20240501'
    """
    return " ".join(
        f"{name}={value}" if isinstance(value, int) else f"{name}={value:g}" for name, value in values.items()
    )


def grid(arguments: FinetuneArguments, *, bi_encoder: bool = False) -> list[HyperParameters]:
    """All combinations of the settings that are lists.

    Args:
        arguments: The settings.
        bi_encoder: Whether the texts of a pair are read separately. Such an encoder compares them well from the start,
            so its default learning rates are lower.
    """
    rates = arguments.learning_rates or ([2e-4, 5e-5] if bi_encoder else [5e-4, 2e-4])
    return [
        HyperParameters(rate, seed, decay, warmup, batch)
        for rate, decay, warmup, batch, seed in itertools.product(
            rates,
            arguments.weight_decays,
            arguments.warmups,
            arguments.batch_sizes,
            arguments.seeds,
        )
    ]


@dataclass(frozen=True)
class TrainingLimits:
    """Limits of a training run.

    Attributes:
        max_epochs: Largest number of epochs.
        max_steps: Largest number of optimiser steps, or None.
        patience: Evaluations without a better score after which training stops.
        eval_steps: Optimiser steps between evaluations, or None for `usual_interval`.
        checkpoint_seconds: Seconds between checkpoints.
    """

    max_epochs: int
    max_steps: int | None
    patience: int
    eval_steps: int | None
    checkpoint_seconds: float

    @classmethod
    def of(cls, arguments: FinetuneArguments, rows: int) -> TrainingLimits:
        """The limits that the settings give for a number of training examples."""
        return cls(
            max_epochs=arguments.max_epochs or usual_epochs(rows),
            max_steps=arguments.max_steps,
            patience=arguments.patience,
            eval_steps=arguments.eval_steps,
            checkpoint_seconds=60 * arguments.checkpoint_minutes,
        )


def usual_epochs(rows: int) -> int:
    """Default number of epochs: from 30 for few rows to 3 for many."""
    return min(30, max(3, _USUAL_ROWS // max(rows, 1)))


def usual_interval(epoch_steps: int, steps: int, dev_rows: int, batch_size: int) -> int:
    """Default number of optimiser steps between evaluations: an epoch, but at most 1000 steps or an eighth of the run.

    The eighth is rounded up, so runs of few steps are evaluated less than eight times: one of nine steps, five times.

    Large development data raise the limit of 1000 steps, so that scoring takes no longer than the training before it.

    Args:
        epoch_steps: Steps per epoch.
        steps: Steps of the longest possible run.
        dev_rows: Number of development examples.
        batch_size: Training examples per step.
    """
    as_long = math.ceil(dev_rows / (_PASSES * batch_size))
    return min(math.ceil(steps / 8), max(min(epoch_steps, 1000), as_long))
