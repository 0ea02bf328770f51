"""Write `tests/upgrade/VERSION`: one small folder of each command, as this version writes it.

    python tests/upgrade/make.py

It is run once a release, and its files are committed; those of earlier releases stay as they are. Everything lies
below one folder and names its neighbours by relative paths, so that a copy of it goes on wherever it is.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import bort
from bort.predict.manifest import read_manifest

HERE = Path(__file__).resolve().parent
WHO = ("The old baker", "A quiet student", "My sister", "The grey cat", "Nobody here", "The committee")
DOES = ("walked to", "wrote about", "never liked", "is painting", "sold")
WHAT = ("the harbour", "seven apples", "a broken clock", "café tables")
SHAPE = ["--sequence-length", "16", "--valid-share", "0.1", "--precision", "fp32", "--corpus-processes", "1"]
TUNE = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--test", "test.jsonl", "--model", "encoder"]
TUNE += ["--max-length", "24", "--batch-sizes", "8", "--max-epochs", "4", "--precision", "fp32"]
TUNE += ["--learning-rates", "1e-2"]
AGORA = ["--transforms", "swap", "delete", "--min-cosine", "-1", "--max-cosine", "2", "--points-per-mistake", "2"]
AGORA += ["--no-keep-better", "--checkpoint-minutes", "0"]
GATE = ["--gate", "gate.jsonl", "--max-drop", "90"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
KEPT_OUT = ("report.html", "environment.json")
"""A page of megabytes that nothing reads, and what describes the machine."""


def run(folder: Path, *line: str, kill_at: str = "") -> None:
    """Run a command in the folder, to its end, or until a file is there. What is there already is kept."""
    if (folder / line[line.index("--out") + 1]).is_dir():
        return
    command = [sys.executable, "-m", "bort", *line]
    with subprocess.Popen(command, cwd=folder, env=os.environ | OFFLINE, stderr=subprocess.PIPE) as process:
        if kill_at:
            while not list(folder.glob(kill_at)):
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(line)} ended before {kill_at} was there")
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        told = process.communicate()[1].decode()
    if process.returncode and not kill_at:
        raise SystemExit(f"{' '.join(line)}: {told}")


def texts() -> list[str]:
    """All sentences, in an order of their own."""
    found = [f"{who} {does} {what}." for who in WHO for does in DOES for what in WHAT]
    random.Random(0).shuffle(found)
    return found


def write_data(folder: Path) -> None:
    """Labelled texts, a corpus, a shape."""
    rows = [{"text": text, "label": "cat" if "cat" in text else "other"} for text in texts()]
    cats, others = ([row for row in rows if (row["label"] == "cat") == wanted] for wanted in (True, False))
    rows = [row for pair in zip(cats, others, strict=False) for row in pair]
    for name, part in {"train": rows[:24], "dev": rows[24:32], "test": rows[32:], "gate": rows}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    (folder / "corpus.txt").write_text("\n\n".join(texts() * 2) + "\n", "utf-8")
    (folder / "lines.txt").write_text("\n".join(texts()[:40]) + "\n", "utf-8")
    shape = {"depth": 2, "heads": 2, "hidden": 16, "intermediate": 16, "positions": 32}
    (folder / "shape.json").write_text(json.dumps(shape))
    space = {"depth": [1, 2], "heads": [2], "hidden": [16], "intermediate": [16, 32]}
    (folder / "space.yaml").write_text(json.dumps(space))


def write_params(file: Path) -> None:
    """A checkpoint as the released code of Bort saves it, with random numbers."""
    sys.path.insert(0, str(HERE.parent))
    from params_file import tiny_bort, write_params

    write_params(file, tiny_bort("encoder"))


def make(folder: Path) -> None:
    """Run every command."""
    write_data(folder)
    write_params(folder / "bort.params")
    run(folder, "tokenizer", "corpus.txt", "--out", "tokenizer", "--vocab-size", "300")
    pretraining = ["--tokenizer", "tokenizer", "--architecture", "shape.json", "--batch-size", "8", *SHAPE]
    run(folder, "pretrain", "--corpus", "corpus.txt", *pretraining, "--corpus-cache", "corpus", "--out", "encoder",
        "--max-steps", "4", "--teacher-cache", "teacher-cache", "--embedding-teacher", "bort-nano")  # fmt: skip
    run(folder, "pretrain", "--corpus", "corpus", *pretraining, "--out", "pretrain-killed", "--max-steps", "12",
        "--checkpoint-minutes", "0", kill_at="pretrain-killed/checkpoints/checkpoint-5/complete.json")  # fmt: skip
    run(folder, "shrink", "encoder", "--out", "shrunk", "--depth", "1")
    run(folder, "convert", "bort.params", "--out", "converted", "--num-attention-heads", "4", "--tokenizer",
        "tokenizer")  # fmt: skip
    run(folder, "extract", "--corpus", "corpus", "--tokenizer", "tokenizer", "--space", "space.yaml", "--out",
        "extract", "--maximum", "2,2,16,32", "--steps", "4", "--rows-per-step", "4", "--row-length", "16",
        "--held-out-rows", "4", "--learning-rates", "1e-3", "--repeats", "0", "--positions", "32", "--top-k", "1",
        "--sequence-length", "16")  # fmt: skip
    run(folder, "finetune", *TUNE, "--method", "plain", "--out", "plain")
    run(folder, "finetune", *TUNE, "--method", "head", "--out", "head")
    run(folder, "finetune", *TUNE, *AGORA, "--out", "agora")
    run(folder, "finetune", *TUNE, *AGORA, "--out", "agora-killed", kill_at="agora-killed/rounds/grown-01.json")
    for engine in ("onnxruntime", "openvino"):
        for precision in ("fp32", "int8"):
            out = f"export-{engine}-{precision}"
            run(folder, "export", "--model", "plain", "--out", out, "--engine", engine, "--precision", precision, *GATE)
    for precision in ("fp32", "int8"):
        run(folder, "export", "--model", "encoder", "--out", f"export-encoder-{precision}", "--precision", precision,
            "--calibrate", "lines.txt", "--min-cosine", "0")  # fmt: skip
    run(folder, "index", "lines.txt", "--model", "encoder", "--out", "index")
    thin(folder)
    expect(folder)


def thin(folder: Path) -> None:
    """Take out what is large and read by nobody."""
    for name in KEPT_OUT:
        for file in folder.rglob(name):
            file.unlink()
    for checkpoint in (folder / "encoder" / "checkpoints", folder / "pretrain-killed" / "checkpoints" / "checkpoint-4"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for file in folder.glob("export-*/manifest.json"):
        read_manifest(file.parent).write(file.parent)


def expect(folder: Path) -> None:
    """What each model says now, for a later version to say too."""
    few = texts()[:6]
    said: dict[str, list[list[float]]] = {}
    exported = [file.parent.name for file in sorted(folder.glob("export-o*/manifest.json"))]
    for name in ("plain", "head", "agora", *exported):
        with bort.Predictor(str(folder / name), threads=1) as predictor:
            said[name] = [list(answer.probabilities.values()) for answer in predictor.predict(few)]
    for name in ("encoder", "shrunk", "converted", "export-encoder-fp32", "export-encoder-int8"):
        with bort.Encoder(str(folder / name), threads=1) as encoder:
            said[name] = np.round(encoder.encode(few), 6).tolist()
    (folder / "expected.json").write_text(json.dumps({"texts": few, "said": said}) + "\n", "utf-8")


if __name__ == "__main__":
    target = HERE / bort.__version__
    target.mkdir(exist_ok=True)
    make(target)
