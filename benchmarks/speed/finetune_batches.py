"""Fine-tuning with length-sorted batches, compared with padding every text to 128 tokens, on SST-2.

    python -m benchmarks.speed.finetune_batches --data ../shared/data/glue/SST-2/train.tsv

Both run one epoch over the same texts in turn, in one process: collation, forward, backward, clipping and AdamW.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import Benchmark, Shown, Target, interleaved, parser, publish, ratio, ratios_by_round, table
from bort import BortForSequenceClassification, architecture, load_tokenizer
from bort.data.batches import shuffled_length_batches
from bort.data.tables.examples import Columns, Example, read_examples
from bort.finetuning.train_once import Labelled
from bort.model.checkpoints import locate
from bort.model.devices import use_bf16
from bort.predict.encoding import encode
from bort.speed.race import Spread
from bort.tasks.kinds import task_of
from bort.tasks.task import Task

SORTED, PADDED = "length-sorted batches", "padded to 128"
DATA = Path("../shared/data/glue/SST-2/train.tsv")
MAX_LENGTH = 128
SEED = 0
Batch = tuple[dict[str, Tensor], Tensor]


def sorted_batches(data: Labelled, rows: int, epoch: int, pad_token_id: int) -> Iterator[Batch]:
    """The batches that `bort finetune` trains on."""
    for indices in shuffled_length_batches(data.encoded.lengths, rows=rows, seed=SEED, epoch=epoch):
        yield data.encoded.batch(indices, pad_token_id), torch.from_numpy(data.targets[indices])


def padded_batches(data: Labelled, rows: int, epoch: int, pad_token_id: int) -> Iterator[Batch]:
    """The usual recipe: random order, every text padded to the limit."""
    order = np.random.default_rng([SEED, epoch]).permutation(len(data))
    for start in range(0, len(order), rows):
        indices = order[start : start + rows].tolist()
        inputs = {
            name: nn.functional.pad(
                ids, (0, MAX_LENGTH - ids.shape[1]), value=pad_token_id if name == "input_ids" else 0
            )
            for name, ids in data.encoded.batch(indices, pad_token_id).items()
        }
        yield inputs, torch.from_numpy(data.targets[indices])


def epochs_of(
    batches: Callable[[Labelled, int, int, int], Iterator[Batch]],
    model: nn.Module,
    data: Labelled,
    *,
    rows: int,
    pad_token_id: int,
    bf16: bool,
) -> Callable[[], None]:
    """A function that trains one more epoch per call, with the optimiser of `bort finetune`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, eps=1e-6, weight_decay=0.01, fused=True)
    done = 0

    def epoch() -> None:
        nonlocal done
        for inputs, targets in batches(data, rows, done, pad_token_id):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(**inputs).logits
            torch.autograd.backward(nn.functional.cross_entropy(logits.float(), targets))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        done += 1

    return epoch


def sample(file: Path, rows: int) -> tuple[Task, list[Example]]:
    """A seeded sample of SST-2's training file."""
    examples = read_examples(file, Columns(text="sentence"))
    order = np.random.default_rng(SEED).permutation(len(examples))[:rows]
    chosen = [examples[index] for index in order]
    return task_of(chosen), chosen


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seconds, tokens, texts = figures["seconds"], figures["tokens"], figures["examples"]
    by_round = ratios_by_round(seconds[PADDED], seconds[SORTED])
    about = f"""
        {texts:,} texts of SST-2's training file (a seeded sample; mean {tokens / texts:.1f} tokens), preset `nano` with
        random weights, batch size {settings.batch_size}, {figures["precision"]} on the CPU with {figures["threads"]}
        threads. An epoch is {math.ceil(texts / settings.batch_size)} steps of collation, forward, backward, clipping
        and fused AdamW; texts are tokenised beforehand. Medians (range) of {settings.rounds} epochs each, run in turn
        after one untimed epoch; the ratio of neighbouring epochs was {by_round.low:.2f} to {by_round.high:.2f}.
    """
    rows = []
    for name, values in seconds.items():
        spread, computed = Spread.of(values), figures["tokens_computed"][name]
        rate = f"{texts / spread.median:,.0f}"
        rows.append([name, spread.show(2), rate, f"{computed:,}", f"{100 * (1 - tokens / computed):.0f} %"])
    head = ["batches", "s per epoch", "texts/s", "tokens computed", "share of padding"]
    target = Target("speed relative to padding to 128", ratio(seconds[PADDED], seconds[SORTED]), ">=", 2.0, "x")
    return Shown(about, table(head, rows), (target,))


BENCHMARK = Benchmark(
    name="finetune_batches",
    page="speed",
    title="Batches of fine-tuning",
    question="How much do length-sorted batches save in fine-tuning?",
    sources=("src/bort/data/batches.py", "src/bort/finetuning/train_once.py", "src/bort/predict/encoding.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="SST-2's train.tsv")
    made.add_argument("--tokenizer", default="bort-nano", help="folder, hub name, or the embedded bort-nano")
    made.add_argument("--examples", type=int, default=2000)
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="as in bort finetune")
    arguments = made.parse_args()

    source = arguments.tokenizer
    tokenizer = load_tokenizer(source if Path(source).is_dir() else locate(source))
    pad_token_id = int(tokenizer.pad_token_id)
    task, examples = sample(arguments.data, arguments.examples)
    data = Labelled(encode(examples, tokenizer, MAX_LENGTH), task.targets(examples))

    torch.manual_seed(SEED)
    config = architecture("nano", vocab_size=len(tokenizer), pad_token_id=pad_token_id)
    config.num_labels = task.outputs
    model = BortForSequenceClassification(config).train()
    bf16 = use_bf16(arguments.precision)
    settings = {"rows": arguments.batch_size, "pad_token_id": pad_token_id, "bf16": bf16}
    makers = {SORTED: sorted_batches, PADDED: padded_batches}
    computed = {
        name: sum(inputs["input_ids"].numel() for inputs, _ in batches(data, arguments.batch_size, 0, pad_token_id))
        for name, batches in makers.items()
    }
    epochs = {name: epochs_of(batches, copy.deepcopy(model), data, **settings) for name, batches in makers.items()}
    figures = {
        "seconds": interleaved(epochs, arguments.rounds),
        "tokens_computed": computed,
        "tokens": sum(data.encoded.lengths),
        "examples": len(data),
        "precision": "bf16 autocast" if bf16 else "fp32",
        "threads": torch.get_num_threads(),
    }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
