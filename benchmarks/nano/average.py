"""Average the weights of models that were trained from one start: a little better than the best of them.

python -m benchmarks.nano.average build/nano/bort-nano-averaged build/nano/a/model build/nano/b/model
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def average(models: list[Path], out: Path) -> None:
    """Write the first model's folder with the mean of all weights, in fp16."""
    weights = [load_file(folder / "model.safetensors") for folder in models]
    out.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models[0] / file, out)
    means = {name: torch.stack([one[name].float() for one in weights]).mean(0).half() for name in weights[0]}
    save_file(means, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    average(arguments.models, arguments.out)


if __name__ == "__main__":
    main()
