"""Fine-tuning and predicting with a last layer that computes the first token alone, against one that computes all.

    python -m benchmarks.speed.last_layer --data ../shared/data/scarce/sst2/train.jsonl

Both do the same in turn, in one process: a trial as `bort finetune` runs it, its start and the last scoring included,
and predictions as it scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from benchmarks.common import interleaved, publish, shown_ratio, table
from benchmarks.speed.trials import Trials, milliseconds, options
from bort.model import modelling
from bort.predict.classifiers import predict_logits


def main() -> None:
    arguments = options(__doc__, batch_size=32, steps=12).parse_args()
    trials = Trials(arguments)

    def run(what: Callable[[Any], Any], model: Any, first_only: bool) -> Callable[[], None]:
        def timed() -> None:
            with mock.patch.object(modelling, "_only_first_token", return_value=first_only):
                what(model)

        return timed

    def predict(model: Any) -> None:
        predict_logits(model, trials.data.encoded, trials.pad)

    rows, figures = [], {}
    work = (("a step of a trial", trials.run, arguments.steps), ("a text", predict, len(trials.data)))
    for shape, model in trials.models():
        for what, does, times in work:
            seconds = interleaved({"all": run(does, model, False), "first": run(does, model, True)}, arguments.rounds)
            each = [milliseconds(seconds[name], times, 1) for name in ("all", "first")]
            rows.append([f"`{shape}`", what, *each, shown_ratio(seconds["all"], seconds["first"])])
            figures[f"{shape}, {what}"] = seconds
    about = f"""
        {len(trials.data)} texts of mean {trials.tokens:.0f} tokens; random weights, trials with batches of
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
