"""What a training is told: its hyper-parameters, and how long it may take."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass

from bort.finetuning.arguments import FinetuneArguments

_USUAL_ROWS = 200_000
_PASSES = 3
"""What training on an example takes, in forward passes: its own, and twice as much backwards."""


@dataclass(frozen=True)
class HyperParameters:
    """One combination of the grid.

    Attributes:
        learning_rate: Peak learning rate.
        seed: Of the head's weights, the dropout and the order of the data.
        weight_decay: Decoupled weight decay.
        warmup: Part of the longest possible run in which the learning rate rises.
        batch_size: Examples a step.
    """

    learning_rate: float
    seed: int
    weight_decay: float
    warmup: float
    batch_size: int

    def __str__(self) -> str:
        return " ".join(f"{name}={value:g}" for name, value in asdict(self).items())


def grid(arguments: FinetuneArguments, *, bi_encoder: bool = False) -> list[HyperParameters]:
    """All combinations of the settings that are lists.

    Args:
        arguments: The settings.
        bi_encoder: Whether the texts of a pair are read apart. Such an encoder compares them well from the start, and
            large steps would only harm it.
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
    """How long a training may take.

    Attributes:
        max_epochs: Passes over the training data.
        max_steps: Optimiser steps, or None.
        patience: Evaluations without a better score after which it stops.
        eval_steps: Optimiser steps between evaluations, or None for what `usual_interval` says.
        checkpoint_seconds: Time between two checkpoints.
    """

    max_epochs: int
    max_steps: int | None
    patience: int
    eval_steps: int | None
    checkpoint_seconds: float

    @classmethod
    def of(cls, arguments: FinetuneArguments, rows: int) -> TrainingLimits:
        """What the settings say, for so many training examples."""
        return cls(
            max_epochs=arguments.max_epochs or usual_epochs(rows),
            max_steps=arguments.max_steps,
            patience=arguments.patience,
            eval_steps=arguments.eval_steps,
            checkpoint_seconds=60 * arguments.checkpoint_minutes,
        )


def usual_epochs(rows: int) -> int:
    """Passes over so many rows, where the settings do not say: 30 of few rows, 3 of many."""
    return min(30, max(3, _USUAL_ROWS // max(rows, 1)))


def usual_interval(epoch_steps: int, steps: int, dev_rows: int, batch_size: int) -> int:
    """Optimiser steps between two evaluations: an epoch, 1000 steps of a longer one, an eighth of the run at most.

    Where the development data are many it is longer: scoring them shall take no longer than the training before.

    Args:
        epoch_steps: Steps of an epoch.
        steps: Of the longest possible run.
        dev_rows: Development examples.
        batch_size: Training examples a step.
    """
    as_long = math.ceil(dev_rows / (_PASSES * batch_size))
    return min(math.ceil(steps / 8), max(min(epoch_steps, 1000), as_long))
