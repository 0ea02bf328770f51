"""Record one trip through the package; `benchmarks.trips` runs it in a separate process, for any checkout.

    python benchmarks/travel.py TRIP TREE

It prints a JSON object. It imports nothing from the benchmarks, because their version differs from the checkout's.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

UPDATES = ("finetune", "pretrain")
_FUNCTION = 0x1  # CO_OPTIMIZED: neither a module nor a class body


class Arrived(BaseException):
    """The trip is over. A BaseException, so that no handler in the package catches it."""


class Recorder:
    """Records the moves between modules below a folder, with `sys.setprofile`.

    Args:
        source: The folder of the package.
        floors: Rank of each part; a smaller one is higher.
    """

    def __init__(self, source: Path, floors: dict[str, int]) -> None:
        self.source, self.floors = f"{source}{os.sep}", floors
        self.stack: list[str | None] = []
        self.moves: dict[tuple[str, str], bool] = {}
        """Each move in the order of its first occurrence, and whether it is a climb."""
        self._modules: dict[CodeType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Called by `sys.setprofile`."""
        if event == "call":
            module = self._module(frame.f_code)
            if module is not None:
                caller = next((name for name in reversed(self.stack) if name is not None), None)
                if caller is not None and caller != module:
                    self.moves.setdefault((caller, module), self._climbs(caller, module))
            self.stack.append(module)
        elif event == "return" and self.stack:
            self.stack.pop()

    def _climbs(self, caller: str, module: str) -> bool:
        return self._floor(module) < self._floor(caller) or module in self.stack

    def _floor(self, module: str) -> int:
        return self.floors.get(module.partition(".")[0], len(self.floors))

    def _module(self, code: CodeType) -> str | None:
        """The dotted path of a function's module within the package; None for all other code."""
        if code not in self._modules:
            inside = code.co_flags & _FUNCTION and code.co_filename.startswith(self.source)
            name = code.co_filename.removeprefix(self.source).removesuffix(".py").replace(os.sep, ".")
            self._modules[code] = name if inside else None
        return self._modules[code]


def floors(tests: Path) -> dict[str, int]:
    """The rank of each part, from the tree's own test of its layers; what everything may import is lowest."""
    for node in ast.parse((tests / "test_layers.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "LAYERS":
            layers = ast.literal_eval(node.value)
            return {part: rank for rank, parts in enumerate(layers) for part in parts}
    raise LookupError(f"{tests} has no LAYERS")


def jobs(examples: Path, out: Path) -> dict[str, list[str]]:
    """The command line of each trip; flags with underscores, which every version accepts."""
    text = out / "text.txt"
    tiny = ["--max_steps", "2", "--batch_sizes", "4", "--learning_rates", "1e-3", "--method", "agora"]
    data = [word for part in ("train", "dev", "test") for word in (f"--{part}", str(examples / f"{part}.jsonl"))]
    corpus = ["--corpus", str(text), "--corpus_processes", "1"]
    small = ["--tokenizer", "bort-nano", "--architecture", "nano", "--max_steps", "1"]
    small += ["--sequence_length", "16", "--batch_size", "2"]
    short = ["--teacher", "bort-nano", "--space", "nano", "--epsilon", "150", "--steps", "1"]
    short += ["--rows_per_step", "2", "--row_length", "16", "--held_out_rows", "2"]
    return {
        "finetune": ["finetune", *data, *tiny, "--max_train_rows", "14", "--out", str(out / "finetune")],
        "predict": ["predict", "--model", str(out / "model"), "--input", str(out / "new.txt")],
        "pretrain": ["pretrain", *corpus, *small, "--out", str(out / "pretrain")],
        "extract": ["extract", "--corpus", str(text), *short, "--out", str(out / "extract")],
    }


def prepare(examples: Path, out: Path) -> None:
    """Files that the jobs read: a corpus, a classifier and a text for it."""
    import torch

    from bort import BortForSequenceClassification, load_tokenizer
    from bort.model.checkpoints import locate, save

    lines = [json.loads(line)["text"] for line in (examples / "unlabelled.jsonl").read_text("utf-8").splitlines()]
    # Each text is its own document, so that some are held out.
    (out / "text.txt").write_text("\n\n".join(lines * 5) + "\n", "utf-8")
    (out / "new.txt").write_text("Where is my parcel?\n", "utf-8")
    torch.manual_seed(0)
    model = BortForSequenceClassification.from_pretrained(locate("bort-nano"), num_labels=2)
    save(model, load_tokenizer(locate("bort-nano")), out / "model")


def travel(trip: str, tree: Path) -> dict[str, Any]:
    """Make one trip in this process."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    import bort
    from bort.__main__ import main as bort_main

    recorder = Recorder(Path(bort.__file__).parent, floors(tree / "tests"))

    def arrived(*_: object) -> None:
        sys.setprofile(None)
        raise Arrived

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        prepare(tree / "examples" / "support", out)
        words = jobs(tree / "examples" / "support", out)[trip]
        if trip in UPDATES:
            register_optimizer_step_pre_hook(arrived)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            sys.setprofile(recorder)
            try:
                status = bort_main(words)
            except Arrived:
                status = 0
            finally:
                sys.setprofile(None)
        if status:
            raise SystemExit(f"{trip} ended with {status}: {said.getvalue()[-500:]}")
    moves = [[*move, climbs] for move, climbs in recorder.moves.items()]
    return {"moves": len(moves), "climbs": sum(climbs for *_, climbs in moves), "path": moves}


if __name__ == "__main__":
    print(json.dumps(travel(sys.argv[1], Path(sys.argv[2]))))
