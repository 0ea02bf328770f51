"""Trials of a few steps with random weights, as `bort finetune` runs them, for the benchmarks that time them."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import parser
from bort import BortForSequenceClassification, architecture, load_tokenizer
from bort.data.tables.examples import read_examples
from bort.finetuning.train_once import HyperParameters, Labelled, TrainingLimits, train_once
from bort.model.checkpoints import locate
from bort.predict.encoding import encode
from bort.speed.race import Spread
from bort.tasks.task import Task

SHAPES = {"bort": 50_265, "nano": 16_384}
"""Presets, and entries of their vocabularies."""


def options(about: str | None, *, batch_size: int, steps: int) -> argparse.ArgumentParser:
    """The flags that these benchmarks share.

    Args:
        about: Text of `--help`.
        batch_size: Texts a step, by default.
        steps: Of a trial, by default.
    """
    made = parser(about)
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2/train.jsonl"))
    made.add_argument("--batch_size", type=int, default=batch_size)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--rounds", type=int, default=5)
    return made


class Trials:
    """Labelled texts, and models to fit to them.

    Args:
        arguments: Of `options`.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        tokenizer, examples = load_tokenizer(locate("bort-nano")), read_examples(arguments.data)
        self.pad, self.task = int(tokenizer.pad_token_id), Task.of(examples)
        self.data = Labelled(encode(examples, tokenizer, 128), self.task.targets(examples))
        self._dev = Labelled(encode(examples[:8], tokenizer, 128), self.task.targets(examples[:8]))
        self._budget = TrainingLimits(10**6, arguments.steps, 10**6, 10**6, 1e9)
        self._theta = HyperParameters(1e-4, 0, 0.01, 0.1, arguments.batch_size)

    @property
    def tokens(self) -> float:
        """Mean length of the texts."""
        return float(np.mean(self.data.encoded.lengths))

    def models(self) -> Iterator[tuple[str, BortForSequenceClassification]]:
        """A classifier of each shape."""
        for shape, entries in SHAPES.items():
            torch.manual_seed(0)
            config = architecture(shape, vocab_size=entries, pad_token_id=self.pad)
            config.num_labels = self.task.outputs
            yield shape, BortForSequenceClassification(config)

    def run(self, model: Any) -> None:
        """Fit a copy of a model."""
        with tempfile.TemporaryDirectory() as folder:
            train_once(
                copy.deepcopy(model),
                self.task,
                self._theta,
                self.data,
                self._dev,
                pad_token_id=self.pad,
                limits=self._budget,
                folder=Path(folder),
            )


def milliseconds(seconds: list[float], times: int, digits: int) -> str:
    """Median and range of one of so many times that something was done."""
    return Spread.of([1000 * taken / times for taken in seconds]).show(digits)
