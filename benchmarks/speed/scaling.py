"""How a list of texts would scale with threads, by the costs that an export measured.

    python -m benchmarks.speed.scaling EXPORTED...

The plan of `bort.predict` is made for each number of threads, and ends when its last batch does. Simulated are neither
the memory's bandwidth nor a processor that clocks lower with all cores busy: a real machine scales less.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.common import table
from bort.predict.batching import Group, plan, rounded_up
from bort.predict.manifest import Manifest, read_manifest
from bort.speed.race import natural

THREADS = (1, 2, 4, 8, 16, 32)


def milliseconds(manifest: Manifest, lengths: Sequence[int], threads: int) -> float:
    """Until a list is answered, tokenising not counted.

    Args:
        manifest: Of a folder with costs.
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


def scaling(manifest: Manifest, texts: int) -> dict[int, float]:
    """How many times as fast as one thread each number of threads is."""
    lengths = [min(length, manifest.max_length) for length in natural(texts).lengths]
    alone = milliseconds(manifest, lengths, 1)
    return {threads: alone / milliseconds(manifest, lengths, threads) for threads in THREADS}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folders", nargs="+")
    made.add_argument("--texts", type=int, nargs="+", default=[8, 32, 256, 4096])
    arguments = made.parse_args()
    rows = []
    for folder in arguments.folders:
        manifest = read_manifest(folder)
        for texts in arguments.texts:
            found = scaling(manifest, texts)
            rows.append([f"{folder}, {texts} texts", *(f"{found[threads]:.2f}" for threads in THREADS)])
    print(table(["times one thread", *map(str, THREADS)], rows))


if __name__ == "__main__":
    main()
