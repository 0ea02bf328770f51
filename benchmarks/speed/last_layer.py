"""Fine-tuning and predicting with a last layer that computes the first token alone, against one that computes all.

    python -m benchmarks.speed.last_layer --data ../shared/data/scarce/sst2/train.jsonl

Both do the same in turn, in one process: a trial as `bort finetune` runs it, its start and the last scoring included,
and predictions as it scores.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.common import interleaved, parser, publish, ratio, ratios_by_round, table
from bort import BortForSequenceClassification, architecture, load_tokenizer
from bort.data.examples import read_examples
from bort.model import modelling
from bort.model.checkpoints import locate
from bort.runtime.speed.timing import Spread
from bort.tasks.task import Task
from bort.training.classifiers import predict_logits
from bort.training.encoding import encode
from bort.training.trial import Budget, Labelled, Theta, run_trial

SHAPES = {"bort": 50_265, "nano": 16_384}
"""Presets, with random weights, and entries of their vocabularies."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2/train.jsonl"))
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--steps", type=int, default=12)
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()

    tokenizer, examples = load_tokenizer(locate("bort-nano")), read_examples(arguments.data)
    pad, task = int(tokenizer.pad_token_id), Task.of(examples)
    data = Labelled(encode(examples, tokenizer, 128), task.targets(examples))
    dev = Labelled(encode(examples[:8], tokenizer, 128), task.targets(examples[:8]))
    budget = Budget(10**6, arguments.steps, 10**6, 10**6, 1e9)
    theta = Theta(1e-4, 0, 0.01, 0.1, arguments.batch_size)

    def run(what: Callable[[Any], Any], model: Any, first_only: bool) -> Callable[[], None]:
        def timed() -> None:
            with mock.patch.object(modelling, "_only_first_token", return_value=first_only):
                what(model)

        return timed

    def trial(model: Any) -> None:
        own = copy.deepcopy(model)
        with tempfile.TemporaryDirectory() as folder:
            run_trial(own, task, theta, data, dev, pad_token_id=pad, budget=budget, folder=Path(folder))

    def predict(model: Any) -> None:
        predict_logits(model, data.encoded, pad)

    rows, figures = [], {}
    for shape, entries in SHAPES.items():
        torch.manual_seed(0)
        config = architecture(shape, vocab_size=entries, pad_token_id=pad)
        config.num_labels = task.outputs
        model = BortForSequenceClassification(config)
        for what, does, times in (("a step of a trial", trial, arguments.steps), ("a text", predict, len(data))):
            seconds = interleaved({"all": run(does, model, False), "first": run(does, model, True)}, arguments.rounds)
            each = {name: Spread.of([1000 * s / times for s in found]).show(1) for name, found in seconds.items()}
            by_round = ratios_by_round(seconds["all"], seconds["first"])
            faster = f"{ratio(seconds['all'], seconds['first']):.2f} ({by_round.low:.2f} to {by_round.high:.2f})"
            rows.append([f"`{shape}`", what, each["all"], each["first"], faster])
            figures[f"{shape}, {what}"] = seconds
    about = f"""
        {len(data)} texts of mean {np.mean(data.encoded.lengths):.0f} tokens; random weights, trials with batches of
        {arguments.batch_size} and of {arguments.steps} steps, fp32 with {torch.get_num_threads()} threads. Taken in
        turn. Medians (range) of {arguments.rounds}, after an untimed one.
    """
    head = ["preset", "milliseconds of", "all tokens", "the first token", "times as fast"]
    shown = table(head, rows).replace("| ---: |", "| --- |", 1)
    publish(
        "last_layer", "The last layer of a classifier", about=about, shown=shown, figures=figures, out=arguments.out
    )


if __name__ == "__main__":
    main()
