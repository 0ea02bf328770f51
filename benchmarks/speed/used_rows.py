"""A step of fine-tuning that trains only the rows of the vocabulary which the texts use, against one that trains all.

    python -m benchmarks.speed.used_rows --data ../shared/data/scarce/sst2/train.jsonl

Both run the same trial in turn, in one process, as `bort finetune` does; its start and the last scoring are in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from benchmarks.common import interleaved, publish, shown_ratio, table
from benchmarks.speed.trials import SHAPES, Trials, milliseconds, options


def main() -> None:
    arguments = options(__doc__, batch_size=8, steps=26).parse_args()
    trials = Trials(arguments)
    used = len({trials.pad}.union(*trials.data.encoded.columns["input_ids"]))

    def trial(model: Any, most: float) -> Callable[[], None]:
        def run() -> None:
            with mock.patch.object(used_vocabulary, "_MOST", most):
                trials.run(model)

        return run

    rows, figures = [], {}
    for shape, model in trials.models():
        seconds = interleaved({"all": trial(model, 0.0), "used": trial(model, 1.0)}, arguments.rounds)
        steps = [milliseconds(seconds[name], arguments.steps, 0) for name in ("all", "used")]
        rows.append([f"`{shape}`", f"{SHAPES[shape]:,}", *steps, shown_ratio(seconds["all"], seconds["used"])])
        figures[shape] = seconds
    about = f"""
        {len(trials.data)} texts of mean {trials.tokens:.0f} tokens, which use {used:,} entries of the
        vocabulary; random weights, batch {arguments.batch_size}, fp32 with {torch.get_num_threads()} threads. Trials of
        {arguments.steps} steps in turn. Medians (range) of {arguments.rounds}, after an untimed one.
    """
    head = ["preset", "vocabulary", "ms a step, all rows", "ms a step, used rows", "times as fast"]
    title = "Rows of the vocabulary that a trial trains"
    publish("used_rows", title, about=about, shown=table(head, rows), figures=figures, out=arguments.out)


if __name__ == "__main__":
    main()
