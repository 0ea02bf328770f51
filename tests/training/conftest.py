"""A tiny world to train in: a tokenizer folder, a shape, a corpus and labelled texts."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from bort.model.checkpoints import save, save_tokenizer
from bort.model.modelling import BortForMaskedLM


@dataclass
class World:
    tokenizer: str
    architecture: str
    corpus: str
    encoder: str
    train: str
    dev: str
    test: str
    pairs: str
    regression: str


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_tokenizer, sentences) -> World:
    folder = tmp_path_factory.mktemp("world")
    save_tokenizer(tiny_tokenizer, folder / "tokenizer")
    shape = {"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64}
    (folder / "shape.json").write_text(json.dumps(shape))
    rng = random.Random(0)
    documents = ["\n".join(rng.sample(sentences, 4)) for _ in range(300)]
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n", "utf-8")

    import torch

    from bort.model.config import architecture

    torch.manual_seed(0)
    config = architecture(folder / "shape.json", vocab_size=len(tiny_tokenizer))
    save(BortForMaskedLM(config), tiny_tokenizer, folder / "encoder")
    rows = [{"text": text, "label": "cat" if "cat" in text else "other"} for text in sentences]
    rows = [row for row in rows if row["label"] == "cat"] + rng.sample([r for r in rows if r["label"] == "other"], 42)
    rng.shuffle(rows)
    parts = {"train": rows[:40], "dev": rows[40:60], "test": rows[60:]}
    parts["pairs"] = [
        {"text": row["text"], "text_b": rng.choice(sentences) if i % 2 else row["text"], "label": "01"[i % 2]}
        for i, row in enumerate(rows[:40])
    ]
    parts["regression"] = [{"text": row["text"], "label": len(row["text"]) / 10 + 0.05} for row in rows[:40]]
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    files = {name: str(folder / f"{name}.jsonl") for name in parts}
    return World(
        tokenizer=str(folder / "tokenizer"),
        architecture=str(folder / "shape.json"),
        corpus=str(folder / "corpus.txt"),
        encoder=str(folder / "encoder"),
        **files,
    )


@pytest.fixture
def killed():
    """Run a command of `bort` in a process of its own and kill it (-9) once a file is there."""
    import os
    import signal
    import subprocess
    import sys
    import time

    def run(arguments: list[str], folder: Path, pattern: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "bort", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "BORT_TEST": "1"},
        )
        deadline = time.monotonic() + 240
        while not list(folder.glob(pattern)):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"no {pattern} appeared: {process.communicate()[1].decode()[-2000:]}")
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    return run
