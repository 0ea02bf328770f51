"""Pack the teachers for a machine without a network.

    python -m benchmarks.nano.pack --teachers all-mpnet-base-v2 all-MiniLM-L6-v2 \\
      --tokenizer src/bort/assets/bort-nano --out build/nano/teachers

Writes the folders `mpnet` and `minilm` with config.json and weights.npz, one byte per weight.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from benchmarks.nano.teachers import packed
from bort.files import write_aside
from bort.model.tokenization import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--teachers", type=Path, required=True, nargs=2, help="folders of all-mpnet-base-v2, all-MiniLM-L6-v2"
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer whose words are kept")
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    for name, teacher in zip(("mpnet", "minilm"), told.teachers, strict=True):
        folder = told.out / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(teacher / "config.json", folder)
        weights = packed(teacher, load_tokenizer(told.tokenizer))
        with write_aside(folder / "weights.npz", "wb") as file:
            np.savez(file, **weights)
        print(f"{folder}: {(folder / 'weights.npz').stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
