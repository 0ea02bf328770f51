"""Predicting with PyTorch on a CPU in batches of few tokens against batches of many.

    python -m benchmarks.speed.predict_batches --models bort-nano runs/all-MiniLM-L6-v2 runs/all-mpnet-base-v2

The texts of a task in batches of like length, with a head of random weights, as Agora scores its models and asks its
teachers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.common import interleaved, parser, publish, shown_ratio, table
from bort import load_tokenizer
from bort.data.tables.examples import read_examples
from bort.model import devices
from bort.model.checkpoints import locate
from bort.predict.classifiers import new_classifier, predict_logits
from bort.predict.encoding import Encoded, encode
from bort.speed.race import Spread
from bort.tasks.task import Task

MANY = 4096
"""What the default is held against."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", default=["bort-nano"], help="encoders; folders or hub names")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2/dev.jsonl"))
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()
    examples = read_examples(arguments.data)
    few = devices.INFERENCE_TOKENS["cpu"]

    def predict(model: Any, encoded: Encoded, pad: int, tokens: int) -> Callable[[], None]:
        def run() -> None:
            with mock.patch.dict(devices.INFERENCE_TOKENS, cpu=tokens):
                predict_logits(model, encoded, pad)

        return run

    rows, figures, lengths = [], {}, []
    for name in arguments.models:
        torch.manual_seed(0)
        tokenizer, model = load_tokenizer(locate(name)), new_classifier(name, Task.of(examples))
        encoded, pad = encode(examples, tokenizer, 128), int(tokenizer.pad_token_id)
        lengths.append(float(np.mean(encoded.lengths)))
        seconds = interleaved(
            {str(tokens): predict(model, encoded, pad, tokens) for tokens in (few, MANY)}, arguments.rounds
        )
        of_few, of_many = seconds[str(few)], seconds[str(MANY)]
        took = shown_ratio(of_few, of_many)
        rows.append([f"`{Path(name).name}`", Spread.of(of_many).show(2), Spread.of(of_few).show(2), took])
        figures[Path(name).name] = seconds
    about = f"""
        {len(examples)} texts of mean {min(lengths):.0f} to {max(lengths):.0f} tokens, in batches of like length; fp32
        with {torch.get_num_threads()} threads. Taken in turn. Medians (range) of {arguments.rounds}, after an untimed
        one.
    """
    head = ["model", f"seconds, batches of {MANY:,} tokens", f"of {few:,}, the default", "times the time"]
    title = "Batches of prediction with PyTorch"
    publish("predict_batches", title, about=about, shown=table(head, rows), figures=figures, out=arguments.out)


if __name__ == "__main__":
    main()
