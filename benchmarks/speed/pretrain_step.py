"""The pre-training step of preset `bort`, compared with `transformers.BertForMaskedLM` with the same weights.

    python -m benchmarks.speed.pretrain_step

A step is forward, backward, clipping and AdamW, in fp32 on the CPU; both take the same batch in turn, in one process.
Memory is the peak of a fresh process for each, over two steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.common import Benchmark, Shown, Target, interleaved, parser, publish, ratio, ratios_by_round, table
from bort.speed.race import Spread

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = {"bort": "bort.BortForMaskedLM", "transformers": "transformers.BertForMaskedLM"}
SPECIAL_IDS = (0, 1, 2, 3, 50_264)  # RoBERTa's <s>, <pad>, </s>, <unk>, <mask>
LEARNING_RATE, WEIGHT_DECAY, ADAM_EPS, CLIP = 1e-4, 0.01, 1e-6, 1.0
MEMORY_STEPS = 2


def random_batch(rows: int, length: int, vocab_size: int) -> dict[str, Tensor]:
    """Rows of random ordinary tokens, masked as `bort pretrain` does. *Shape:* (rows, length) each."""
    import numpy as np
    import torch

    from bort.data.corpus.masking import Masker

    rng = np.random.default_rng(0)
    masker = Masker(mask_id=SPECIAL_IDS[-1], special_ids=SPECIAL_IDS, vocab_size=vocab_size)
    ids = rng.integers(4, vocab_size - 1, size=(rows, length), dtype=np.int64)
    ids[:, 0], ids[:, -1] = 0, 2
    masked = [masker(row, rng) for row in ids]
    inputs, labels = (torch.from_numpy(np.stack(part)) for part in zip(*masked, strict=True))
    return {"input_ids": inputs, "labels": labels}


def build(variant: str) -> Any:
    """A model with the weights of seed 0; both heads get Bort's LayerNorm eps, so that they compute the same."""
    import torch
    from transformers import BertForMaskedLM

    from bort import BortForMaskedLM, architecture

    torch.manual_seed(0)
    config = architecture("bort")
    model = (BortForMaskedLM if variant == "bort" else BertForMaskedLM)(config)
    model.cls.predictions.transform.LayerNorm.eps = config.mlm_layer_norm_eps
    return model.train()


def step_of(model: Any, batch: dict[str, Tensor]) -> Callable[[], None]:
    """One optimiser step as in `bort pretrain`, which computes no logits unless a teacher needs them."""
    import torch

    from bort.model.modelling import BortForMaskedLM

    options = {"loss_only": True} if isinstance(model, BortForMaskedLM) else {}
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, eps=ADAM_EPS, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model(**batch, **options).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    return step


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure_memory(variant: str, batch: dict[str, Tensor]) -> dict[str, float]:
    """Run in a separate process."""
    step = step_of(build(variant), batch)
    loaded = peak_mib()
    for _ in range(MEMORY_STEPS):
        step()
    return {"loaded_mib": loaded, "peak_mib": peak_mib()}


def memory_of(variant: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Start that process. A child's peak starts at its parent's, so this one must not have loaded torch yet."""
    if "torch" in sys.modules:
        raise RuntimeError("memory must be measured before torch is loaded")
    sizes = ["--batch-size", str(arguments.batch_size), "--sequence-length", str(arguments.sequence_length)]
    command = [sys.executable, "-m", "benchmarks.speed.pretrain_step", "--memory-of", variant, *sizes]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def first_losses(models: dict[str, Any], batch: dict[str, Tensor]) -> dict[str, float]:
    """Losses of the untrained models without dropout."""
    import torch

    losses = {}
    with torch.no_grad():
        for name, model in models.items():
            losses[name] = float(model.eval()(**batch).loss)
            model.train()
    return losses


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    seconds, memory, losses = figures["seconds"], figures["memory"], figures["losses"]
    by_round = ratios_by_round(seconds["transformers"], seconds["bort"])
    about = f"""
        Preset `bort` with 50,265 tokens, batch {settings.batch_size} x {settings.sequence_length}, {figures["masked"]}
        positions masked, fp32 on the CPU with {figures["threads"]} threads, dropout 0.1. A step is forward, backward,
        clipping and fused AdamW. Medians (range) of {settings.rounds} steps each, run in turn on the same batch after
        one untimed step; the ratio of neighbouring steps was {by_round.low:.2f} to {by_round.high:.2f}. Memory is the
        peak resident size of a fresh process, including interpreter and libraries, over {MEMORY_STEPS} steps, and
        before the first step, with the weights loaded. First loss: same weights, no dropout, the same LayerNorm eps in
        both heads; the two differ by {abs(losses["bort"] - losses["transformers"]):.1e}.
    """
    spreads = {name: Spread.of(values) for name, values in seconds.items()}
    rows = [
        [
            f"`{VARIANTS[name]}`",
            spreads[name].show(),
            f"{figures['tokens_per_step'] / spreads[name].median:,.0f}",
            f"{memory[name]['peak_mib']:,.0f}",
            f"{memory[name]['loaded_mib']:,.0f}",
            f"{losses[name]:.6f}",
        ]
        for name in VARIANTS
    ]
    head = ["model", "s per step", "tokens/s", "peak MiB", "MiB before step 1", "first loss"]
    share = memory["bort"]["peak_mib"] / memory["transformers"]["peak_mib"]
    targets = (
        Target("speed relative to transformers", ratio(seconds["transformers"], seconds["bort"]), ">=", 2.2, "x"),
        Target("peak memory relative to transformers", share, "<=", 0.6, "x"),
    )
    return Shown(about, table(head, rows), targets)


BENCHMARK = Benchmark(
    name="pretrain_step",
    page="speed",
    title="Pre-training step",
    question="How much faster is a pre-training step than with `transformers`, and how much memory does it save?",
    sources=("src/bort/model/modelling.py", "src/bort/model/mlm_loss.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--batch-size", type=int, default=8)
    made.add_argument("--sequence-length", type=int, default=512)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = made.parse_args()
    memory = {} if arguments.memory_of else {name: memory_of(name, arguments) for name in VARIANTS}

    import torch

    from bort import architecture

    config = architecture("bort")
    batch = random_batch(arguments.batch_size, arguments.sequence_length, config.vocab_size)
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of, batch)))
        return
    models = {name: build(name) for name in VARIANTS}
    models["transformers"].load_state_dict(models["bort"].state_dict())
    losses = first_losses(models, batch)
    seconds = interleaved({name: step_of(model, batch) for name, model in models.items()}, arguments.rounds)
    figures = {
        "seconds": seconds,
        "memory": memory,
        "losses": losses,
        "tokens_per_step": arguments.batch_size * arguments.sequence_length,
        "masked": int((batch["labels"] >= 0).sum()),
        "threads": torch.get_num_threads(),
    }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
