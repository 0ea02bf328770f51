"""How the speed on a list of texts scales with threads: measured with one and two, simulated with more.

    python -m benchmarks.speed.inference --only prepare   # exports the models
    python -m benchmarks.speed.scaling

For each number of threads, `bort.predict` plans the batches by the costs that the export measured; the simulated list
ends with its last batch. The simulation ignores memory bandwidth and the lower clock of a processor with all cores
busy: a real machine scales less.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, parser, publish, table
from benchmarks.speed.inference import OWN
from bort.predict.batching import Group, plan, rounded_up
from bort.predict.manifest import Manifest, read_manifest
from bort.speed.race import natural

MEASURED = (1, 2)
SIMULATED = (2, 4, 8, 16, 32)
ENGINES = ("onnxruntime-fp32", "onnxruntime-int8", "openvino-int8")


def milliseconds(manifest: Manifest, lengths: Sequence[int], threads: int) -> float:
    """Time to answer a list, without tokenising.

    Args:
        manifest: Manifest of a folder with costs.
        lengths: Tokens of each text.
        threads: At least 1.

    Raises:
        ValueError: The folder has no costs.
    """
    spec = manifest.graphs[0]
    if spec.costs is None:
        raise ValueError("the folder has no costs; export the model again")
    int8 = spec.precision == "int8"
    padded = [rounded_up(n, manifest.max_length) if spec.engine == "openvino" else n for n in lengths]
    group = Group(0, range(len(padded)), padded, spec.costs, equal_lengths=int8)
    return plan([group], threads).cost


def simulated(manifest: Manifest, texts: int) -> list[float]:
    """The speed of each number of threads relative to one thread."""
    lengths = [min(length, manifest.max_length) for length in natural(texts).lengths]
    alone = milliseconds(manifest, lengths, 1)
    return [alone / milliseconds(manifest, lengths, threads) for threads in SIMULATED]


def measured(folder: Path, sizes: Sequence[int], rounds: int, vocab_size: int = 1000) -> dict[str, list[float]]:
    """Seconds of each round, by the number of texts and of threads; all run in turn.

    Token ids are below `vocab_size`.
    """
    from bort.predict.engine import open_exported
    from bort.speed.race import take_turns

    engines = {threads: open_exported(folder, threads) for threads in MEASURED}
    turns: dict[Any, Any] = {}
    for size in sizes:
        for threads, engine in engines.items():
            types = "token_type_ids" in engine.manifest.inputs
            encoded = natural(size).tokens_of(vocab_size, types=types)
            turns[f"{size} {threads}"] = lambda engine=engine, encoded=encoded: engine.run(encoded)
    return take_turns(turns, rounds)


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    from bort.speed.race import Spread

    rows, medians = [], []
    for one in figures["scaling"]:
        alone, two = (one["seconds"][f"{one['texts']} {threads}"] for threads in MEASURED)
        by_round = Spread.of([a / b for a, b in zip(alone, two, strict=True)])
        medians.append(by_round.median)
        cells = [by_round.show(2), *(f"{times:.2f}" for times in one["simulated"])]
        rows.append([f"{one['model']}, {one['engine']}, {one['texts']} texts", *cells])
    head = ["speed relative to one thread", "2, measured", *(f"{threads}, simulated" for threads in SIMULATED)]
    about = f"""
        Token ids in, logits out; texts of natural lengths in one list. Measured: median (range) of {settings.rounds}
        rounds. Simulated: batches planned by the costs that the export measured, ignoring the limits of memory and
        clock. Random weights.
    """
    figure = f"two threads: {min(medians):.2g} to {max(medians):.2g} times as fast as one"
    return Shown(about, table(head, rows), figure=figure)


BENCHMARK = Benchmark(
    name="scaling",
    page="speed",
    title="Scaling with threads",
    question="How does the speed on a list of texts scale with threads?",
    sources=("src/bort/predict/batching.py", "src/bort/predict/costs.py", "src/bort/predict/exported_engine.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", default=OWN)
    made.add_argument("--engines", nargs="+", default=ENGINES)
    made.add_argument("--texts", type=int, nargs="+", default=[8, 32, 256])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--work", type=Path, default=Path("build/inference"))
    arguments = made.parse_args()
    found = []
    for model in arguments.models:
        for engine in arguments.engines:
            folder = arguments.work / "models" / model / engine
            seconds, manifest = measured(folder, arguments.texts, arguments.rounds), read_manifest(folder)
            for texts in arguments.texts:
                times = {name: each for name, each in seconds.items() if name.startswith(f"{texts} ")}
                one = {"model": model, "engine": engine, "texts": texts, "seconds": times}
                found.append(one | {"simulated": simulated(manifest, texts)})
            print(model, engine, flush=True)
    publish(BENCHMARK, {"scaling": found}, arguments)


if __name__ == "__main__":
    main()
