"""Which few combinations of hyper-parameters suit plain fine-tuning with few labels: the default grid.

    python -m benchmarks.quality.agora_grid --data ../shared/data/scarce

Fits every combination of a wide grid on each task, and takes combinations one after another, each time the one that
adds most to the mean over the tasks of the best development accuracy so far. Finished fits are kept in
results/agora_grid.jsonl, known by data, weights and settings, but not by this package's code: after a change --fresh.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
from pathlib import Path

from benchmarks.common import parser, publish, table
from benchmarks.quality.scarce import TASKS, Cache, parts_of, sha256

RATES = (2e-3, 1e-3, 5e-4, 2.5e-4, 1e-4)
BATCHES = (8, 16, 32)
Combination = tuple[float, int]


def fits(model: str, task: Path, seed: int, cache: Cache) -> dict[Combination, float]:
    """Development accuracy of each combination."""
    import bort
    from bort.data.tables.examples import label_names, read_examples
    from bort.finetuning.fitter import Fitter
    from bort.finetuning.plain import grid
    from bort.finetuning.splits import read_splits
    from bort.model.checkpoints import locate

    files = parts_of(task)
    wide = {"learning_rates": [*RATES], "batch_sizes": [*BATCHES], "seeds": [seed]}
    known = {"weights": sha256(Path(locate(model)) / "model.safetensors"), "data": sha256(*files.values())}
    found: dict[Combination, float] = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        # Few training rows need not have all labels.
        names = label_names([example for part in ("train", "dev") for example in read_examples(files[part])])
        settings = bort.FinetuneArguments(
            train=str(files["train"]), dev=str(files["dev"]), classes=names, model=model, out=scratch, **wide
        )
        data = read_splits(settings)
        fitter = Fitter(settings, data.task, data.train)
        train, dev = fitter.labelled(data.train), fitter.labelled(data.dev)
        for place, theta in enumerate(grid(settings)):
            key = {**known, "task": task.name, "model": Path(model).name, "theta": str(theta)}
            record = cache.get(key)
            if record is None:
                _, result = fitter.fit(theta, train, dev, folder=Path(scratch) / f"{place}")
                record = {"key": key, "dev": result.score, "step": result.step}
                cache.add(record)
            found[theta.learning_rate, theta.batch_size] = record["dev"]
    return found


def chosen(found: list[dict[Combination, float]], count: int) -> list[Combination]:
    """Greedily, the combinations whose best is highest on average over the tasks and seeds."""
    picked: list[Combination] = []
    while len(picked) < count:
        left = [one for one in found[0] if one not in picked]
        picked.append(max(left, key=lambda one: _best_of([*picked, one], found)))
    return picked


def _best_of(some: list[Combination], found: list[dict[Combination, float]]) -> float:
    return statistics.mean(max(scores[one] for one in some) for scores in found)


def main() -> None:
    import bort

    made = parser(__doc__)
    made.add_argument("--model", default="bort-nano")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--fresh", action="store_true", help="forget the finished fits")
    arguments = made.parse_args()
    cache = Cache(arguments.out / "results" / "agora_grid.jsonl", fresh=arguments.fresh)
    found = []
    for task, seed in itertools.product(arguments.tasks, arguments.seeds):
        found.append(fits(arguments.model, arguments.data / task, seed, cache))
        print(f"{task} seed {seed}: best {max(found[-1].values()):.3f}", flush=True)
    order = chosen(found, len(found[0]))
    rows = [
        [
            f"{place + 1}",
            f"{rate:g}",
            f"{batch}",
            f"{100 * statistics.mean(scores[rate, batch] for scores in found):.1f}",
            f"{100 * _best_of(order[: place + 1], found):.1f}",
        ]
        for place, (rate, batch) in enumerate(order)
    ]
    default = bort.FinetuneArguments(out="")
    product = list(itertools.product(default.learning_rates, default.batch_sizes))
    if set(product) <= set(order):
        rows.append(["the default grid", "", "", "", f"{100 * _best_of(product, found):.1f}"])
    shown = table(["taken", "learning rate", "batch size", "alone", "best of those so far"], rows)
    about = f"""
        {Path(arguments.model).name}, plain fine-tuning with 100 to 300 labels: development accuracy in %, mean over
        {len(arguments.tasks)} tasks and {len(arguments.seeds)} seed{"s" if len(arguments.seeds) > 1 else ""}.
        Combinations in the order in which each adds most to the best so far. The default grid is a product of lists:
        learning rates {", ".join(f"{rate:g}" for rate in default.learning_rates)}, batch sizes
        {", ".join(map(str, default.batch_sizes))}; its lower rates are there for encoders larger than this one.
    """
    figures = {f"{rate:g} {batch}": [scores[rate, batch] for scores in found] for rate, batch in order}
    publish("agora_grid", "Default grid of Agora", about=about, shown=shown, figures=figures, out=arguments.out)


if __name__ == "__main__":
    main()
