"""A step of fine-tuning that trains only the rows of the vocabulary which the texts use, against one that trains all.

    python -m benchmarks.speed.used_rows --data ../shared/data/scarce/sst2/train.jsonl

Both run the same trial in turn, in one process, as `bort finetune` does; its start and the last scoring are in it.
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
from bort.model.checkpoints import locate
from bort.runtime.speed.timing import Spread
from bort.tasks.task import Task
from bort.training import used_rows
from bort.training.encoding import encode
from bort.training.trial import Budget, Labelled, Theta, run_trial

SHAPES = {"bort": 50_265, "nano": 16_384}
"""Presets, with random weights, and entries of their vocabularies."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2/train.jsonl"))
    made.add_argument("--batch_size", type=int, default=8)
    made.add_argument("--steps", type=int, default=26)
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()

    tokenizer, examples = load_tokenizer(locate("bort-nano")), read_examples(arguments.data)
    pad, task = int(tokenizer.pad_token_id), Task.of(examples)
    data = Labelled(encode(examples, tokenizer, 128), task.targets(examples))
    dev = Labelled(encode(examples[:8], tokenizer, 128), task.targets(examples[:8]))
    budget = Budget(10**6, arguments.steps, 10**6, 10**6, 1e9)
    theta = Theta(1e-4, 0, 0.01, 0.1, arguments.batch_size)
    used = len({pad}.union(*data.encoded.columns["input_ids"]))

    def trial(model: Any, most: float) -> Callable[[], None]:
        def run() -> None:
            own = copy.deepcopy(model)
            with tempfile.TemporaryDirectory() as folder, mock.patch.object(used_rows, "_MOST", most):
                run_trial(own, task, theta, data, dev, pad_token_id=pad, budget=budget, folder=Path(folder))

        return run

    rows, figures = [], {}
    for shape, entries in SHAPES.items():
        torch.manual_seed(0)
        config = architecture(shape, vocab_size=entries, pad_token_id=pad)
        config.num_labels = task.outputs
        model = BortForSequenceClassification(config)
        seconds = interleaved({"all": trial(model, 0.0), "used": trial(model, 1.0)}, arguments.rounds)
        by_round = ratios_by_round(seconds["all"], seconds["used"])
        steps = {
            name: Spread.of([1000 * s / arguments.steps for s in found]).show(0) for name, found in seconds.items()
        }
        times = f"{ratio(seconds['all'], seconds['used']):.2f} ({by_round.low:.2f} to {by_round.high:.2f})"
        rows.append([f"`{shape}`", f"{entries:,}", steps["all"], steps["used"], times])
        figures[shape] = seconds
    about = f"""
        {len(data)} texts of mean {np.mean(data.encoded.lengths):.0f} tokens, which use {used:,} entries of the
        vocabulary; random weights, batch {arguments.batch_size}, fp32 with {torch.get_num_threads()} threads. Trials of
        {arguments.steps} steps in turn. Medians (range) of {arguments.rounds}, after an untimed one.
    """
    head = ["preset", "vocabulary", "ms a step, all rows", "ms a step, used rows", "times as fast"]
    title = "Rows of the vocabulary that a trial trains"
    publish("used_rows", title, about=about, shown=table(head, rows), figures=figures, out=arguments.out)


if __name__ == "__main__":
    main()
