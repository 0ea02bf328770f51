"""Vectors of a second, larger teacher for some of the texts, read once and kept.

    python -m benchmarks.nano.second_teacher --texts build/nano/texts --teacher MPNET --out build/nano/second

The teacher (MPNet or BERT with the same uncased WordPiece vocabulary, mean over the tokens) is too slow to be read
beside the student. Texts of at most `--longest` tokens are taken in their order, which is random; each shard is sorted
by length. The same command goes on after the last whole shard.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.nano.rows import Rows
from bort.model.tokenization import load_tokenizer

_SHARD = 8192
_BATCH = 64
_BERT_TO_MPNET = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}


@dataclass(frozen=True)
class Vectors:
    """Rows of the texts and their vectors. *Shapes:* rows (kept,), vectors (kept, D)."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float16]

    @classmethod
    def open(cls, folder: Path) -> Vectors:
        shards = [np.load(file) for file in sorted(folder.glob("[0-9]*.npz"))]
        return cls(*(np.concatenate([shard[name] for shard in shards]) for name in ("rows", "vectors")))

    @property
    def size(self) -> int:
        return int(self.vectors.shape[1])

    def __getitem__(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tensor]:
        return self.rows[places], torch.from_numpy(self.vectors[places].astype(np.float32))


class _Mean(nn.Module):
    """An encoder with its pooling, for OpenVINO to trace."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        # The lowest float becomes infinite in bf16.
        encoder.get_extended_attention_mask = lambda mask, *_, **__: (1.0 - mask[:, None, None, :].float()) * -1e4
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        return nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)


class Reader:
    """The second teacher in OpenVINO, which in bf16 is twice as fast as fp32 where the processor has it."""

    def __init__(self, folder: Path, texts: Path) -> None:
        import openvino
        from transformers import AutoModel, AutoTokenizer

        known = AutoTokenizer.from_pretrained(folder).get_vocab()
        student = load_tokenizer(texts)
        entries = student.convert_ids_to_tokens(list(range(len(student))))
        names = [_BERT_TO_MPNET[entry] if _BERT_TO_MPNET.get(entry) in known else entry for entry in entries]
        self.ids = np.array([known.get(name, known["[UNK]"]) for name in names])
        self.cls, self.sep, self.pad = (
            int(self.ids[getattr(student, f"{name}_token_id")]) for name in ("cls", "sep", "pad")
        )
        encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        example = {"input_ids": torch.full((3, 9), self.sep), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
        graph = openvino.convert_model(_Mean(encoder), example_input=example)
        wanted = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "bf16"}
        self.request = openvino.Core().compile_model(graph, "CPU", wanted).create_infer_request()

    def __call__(self, texts: list[list[int]]) -> NDArray[np.float32]:
        """*Shape:* (texts, D)."""
        ids = np.full((len(texts), max(map(len, texts)) + 2), self.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text) + 2] = [self.cls, *self.ids[text], self.sep]
            mask[row, : len(text) + 2] = 1
        made: NDArray[np.float32] = self.request.infer({"input_ids": ids, "attention_mask": mask})[0]
        return made


def shards(rows: Rows, longest: int, held_out: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers of one shard after another."""
    lengths = rows.lengths[: len(rows) - held_out]
    taken = np.flatnonzero((lengths >= 4) & (lengths <= longest))
    for start in range(0, len(taken), _SHARD):
        part = taken[start : start + _SHARD]
        yield part[np.argsort(lengths[part], kind="stable")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("texts", "teacher", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--longest", type=int, default=32)
    parser.add_argument("--held_out", type=int, default=1024, help="as `train` holds out")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    read, rows = Reader(told.teacher, told.texts), Rows.open(told.texts / "singles")
    for number, part in zip(range(told.shards), shards(rows, told.longest, told.held_out), strict=False):
        file = told.out / f"{number:04}.npz"
        if file.exists():
            continue
        begun = time.monotonic()
        batches = (part[start : start + _BATCH] for start in range(0, len(part), _BATCH))
        vectors = np.concatenate([read([rows[int(row)] for row in batch]) for batch in batches])
        aside = told.out / "unfinished.npz"
        np.savez(aside, rows=part, vectors=vectors.astype(np.float16))
        aside.rename(file)
        print(f"{file.name}: {len(part) / (time.monotonic() - begun):.0f} texts/s", flush=True)


if __name__ == "__main__":
    main()
