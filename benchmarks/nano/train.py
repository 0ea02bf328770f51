"""Train bort-nano on a GPU with two teachers, on single texts and on pairs.

    python -m benchmarks.nano.train --texts build/nano/texts --teachers build/nano/teachers \\
      --start_from src/bort/assets/bort-nano --out build/nano/run --minutes 7.3

all-mpnet-base-v2 provides the target for whole texts, all-MiniLM-L6-v2 for each token and each pair of tokens. mpnet
reads everything once, before training; MiniLM runs beside the student. Time ends the run: the learning rate falls to
almost zero over `--minutes`. Texts stay on the device and separate processes lay out the pairs, because a GPU takes
only 40 ms per step. `--device cpu` is for trials.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import BertModel

from benchmarks.nano import losses, teachers
from benchmarks.nano.pairs import NOT_ASKED, Edit, Words, join, lay, lexical
from benchmarks.nano.rows import Rows, batches, padded
from bort.model.checkpoints import quiet, save
from bort.model.tokenization import load_tokenizer


@dataclass(frozen=True)
class Settings:
    """Training settings.

    Args:
        texts: Folder that `prepare` wrote.
        teachers: Folder that `pack` wrote, with `mpnet` and `minilm` in it.
        start_from: The initial student, with the tokenizer of the texts.
        out: Output folder.
        minutes: Minutes of training.
        rows: Texts per batch.
        most_tokens: Tokens per batch, including padding.
        window: Texts that are sorted by length together and cut into batches.
        pairs: True pairs per batch of pairs; up to three quarters as many are made from them.
        edits: Texts per batch of pairs that are paired with an edit of themselves.
        pair_every: One step in this many uses pairs.
        alone: Weight of MiniLM's vectors; that of mpnet's is 1.
        tokens: Weight of MiniLM's states of tokens.
        held_out: Texts at the end that are never trained on.
        workers: Processes that lay out pairs.
    """

    texts: Path
    teachers: Path
    start_from: Path
    out: Path
    minutes: float = 8.0
    device: str = "cuda"
    rows: int = 4096
    most_tokens: int = 131_072
    window: int = 131_072
    pairs: int = 512
    edits: int = 192
    pair_every: int = 4
    alone: float = 0.25
    tokens: float = 0.4
    learning_rate: float = 1.5e-3
    warm_up: float = 0.02
    weight_decay: float = 0.01
    held_out: int = 2048
    workers: int = 10
    log_every: int = 200
    seed: int = 0


class Texts:
    """Texts on a device; batches are made there."""

    def __init__(self, rows: Rows, device: torch.device, cls: int, sep: int) -> None:
        self.lengths, self.cls, self.sep = rows.lengths, cls, sep
        self._ids = torch.from_numpy(np.asarray(rows.ids).astype(np.int32)).to(device)
        self._starts = torch.from_numpy(rows.starts).to(device)

    def __getitem__(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """`[CLS] text [SEP]`, padded with 0 to a multiple of 8, and the mask.

        *Shapes:* (texts, seq) twice.
        """
        longest = -(-(int(self.lengths[chosen].max()) + 2) // 8) * 8
        rows = sent(torch.from_numpy(chosen), self._starts.device)
        starts, places = self._starts[rows].unsqueeze(1), torch.arange(longest, device=rows.device)
        sizes = self._starts[rows + 1].unsqueeze(1) - starts
        ids = self._ids[(starts + places - 1).clamp(0, len(self._ids) - 1)].long()
        ids = torch.where(places == 0, self.cls, torch.where(places == sizes + 1, self.sep, ids))
        mask = places < sizes + 2
        return ids * mask, mask


class LaidPairs(Dataset[dict[str, Tensor]]):
    """Batches of joined pairs by number, made in the process that asks for them.

    Args:
        rows: Row numbers of each batch's true pairs.
        vectors: mpnet's vectors of the first and of the second texts. *Shape:* (pairs, D) twice.
    """

    def __init__(
        self, run: Run, rows: list[NDArray[np.int64]], vectors: tuple[NDArray[np.float16], NDArray[np.float16]]
    ) -> None:
        self.settings, self.rows, self.vectors = run.settings, rows, vectors
        self.singles, (self.a, self.b), self.words = run.rows["singles"], run.sides, run.words
        self.cls, self.sep = run.cls, run.sep

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        torch.set_num_threads(1)
        rng, chosen = random.Random(f"{self.settings.seed} {number}"), self.rows[number]
        texts = [self.a[int(row)] for row in chosen] + [self.b[int(row)] for row in chosen]
        true, edits = len(chosen), []
        donors = rng.sample(range(len(self.singles) - self.settings.held_out), 2 * self.settings.edits)
        for text, donor in zip(donors[::2], donors[1::2], strict=True):
            if len(row := self.singles[text][:70]) >= 3:
                edited, done = self.words.edit(row, self.singles[donor], rng.choice(list(Edit)), rng)
                texts += [row, edited]
                edits.append(done)
        vectors = torch.from_numpy(np.concatenate([side[chosen] for side in self.vectors]).astype(np.float32))
        joined = join(vectors, true, edits, rng)
        ids, mask = padded(texts, self.cls, self.sep)
        laid = lay(texts, joined, ids.shape[1], self.cls, self.sep)
        first, second, edit = map(torch.from_numpy, (joined.first, joined.second, joined.edit))
        known = edit == NOT_ASKED  # mpnet's vectors are unknown for texts and their edits
        cosine = torch.full(known.shape, torch.nan)
        cosine[known] = (vectors[first[known]] * vectors[second[known]]).sum(1)
        return {
            "alone": ids,
            "alone mask": mask.bool(),
            "first": first,
            "second": second,
            "related": torch.from_numpy(joined.related),
            "edit": edit,
            "cosine": cosine,
            "lexical": lexical(texts, joined, self.words.idf),
            **{name: getattr(laid, name) for name in ("ids", "types", "mask", "source", "side")},
        }


def as_is(batch: Any) -> Any:
    return batch[0]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, without waiting for a busy GPU."""
    if device.type == "cpu":
        return tensor
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def encode(model: BertModel, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
    """The last layer, as `model` computes it, but without its check of the mask, which makes a GPU wait.

    *Shapes:* (texts, seq) each -> (texts, seq, H).
    """
    states = model.embeddings(input_ids=ids, token_type_ids=torch.zeros_like(ids) if types is None else types)
    seen = mask.bool()[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
    heads = (*ids.shape, model.config.num_attention_heads, -1)
    for layer in model.encoder.layer:
        asked = layer.attention.self
        q, k, v = (part(states).view(heads).transpose(1, 2) for part in (asked.query, asked.key, asked.value))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        states = layer.attention.output(read, states)
        states = layer.output(layer.intermediate(states), states)
    return states


class Run:
    """Student, teachers, texts."""

    def __init__(self, settings: Settings) -> None:
        if settings.device.startswith("cuda") and not torch.cuda.is_available():
            raise SystemExit(f"--device {settings.device}: PyTorch finds no GPU here")
        self.settings, self.device = settings, torch.device(settings.device)
        self.tokenizer = load_tokenizer(settings.texts)
        self.cls, self.sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        self.rows = {name: Rows.open(settings.texts / name) for name in ("singles", "pairs.a", "pairs.b")}
        self.texts = {name: Texts(rows, self.device, self.cls, self.sep) for name, rows in self.rows.items()}
        self.mpnet, self.minilm = (self._teacher(name) for name in ("mpnet", "minilm"))
        torch.manual_seed(settings.seed)
        with quiet():
            student = BertModel.from_pretrained(settings.start_from, dtype=torch.float32)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.student = student.train().to(self.device)
        self.heads = losses.Heads(student.config.hidden_size, self.mpnet.config.hidden_size).to(self.device)

    @cached_property
    def words(self) -> Words:
        entries = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        return Words.of(entries, self.rows["singles"].ids[:8_000_000])

    @property
    def sides(self) -> tuple[Rows, Rows]:
        return self.rows["pairs.a"], self.rows["pairs.b"]

    def _teacher(self, name: str) -> Any:
        folder = self.settings.teachers / name
        with np.load(folder / "weights.npz") as weights:
            return teachers.unpacked(dict(weights), folder).to(self.device, torch.bfloat16)

    # Encoding.

    def read(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The student's states and pooled first token. *Shapes:* (texts, seq, H), (texts, H)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            states = encode(self.student, ids, mask, types)
            return states.float(), self.student.pooler(states).float()

    def teach(self, ids: Tensor, mask: Tensor) -> Tensor:
        """MiniLM's states. *Shape:* (texts, seq, H)."""
        with torch.no_grad():
            return encode(self.minilm, ids, mask).float()

    @torch.no_grad()
    def read_by_mpnet(self, name: str) -> Tensor:
        """mpnet's vectors of all texts, of length 1, in fp16. *Shape:* (texts, D)."""
        texts = self.texts[name]
        made = torch.zeros(len(texts.lengths), self.mpnet.config.hidden_size, dtype=torch.float16, device=self.device)
        order, start = np.argsort(texts.lengths, kind="stable"), 0
        while start < len(order):
            longest = int(texts.lengths[order[start]]) + 10
            part = order[start : start + max(1, self.settings.most_tokens // longest)]
            ids, mask = texts[part]
            vectors = F.normalize(losses.mean(teachers.states(self.mpnet, ids, mask).float(), mask), dim=-1)
            made[sent(torch.from_numpy(part), self.device)] = vectors.half()
            start += len(part)
        return made

    # One step of each kind.

    def single_step(self, rows: NDArray[np.int64], vectors: Tensor) -> dict[str, Tensor]:
        ids, mask = self.texts["singles"][rows]
        states, pooled = self.read(ids, mask)
        target = vectors[sent(torch.from_numpy(rows), self.device)].float()
        made = losses.second_losses(states, pooled, target, mask, self.heads)
        weights = {"mean": self.settings.alone, "first": self.settings.alone, "states": self.settings.tokens}
        found = losses.single_losses(states, self.teach(ids, mask), mask)
        return made | {name: weight * found[name] for name, weight in weights.items()}

    def pair_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = {name: sent(tensor, self.device) for name, tensor in batch.items()}
        states = self.teach(batch["alone"], batch["alone mask"])
        vectors = F.normalize(losses.mean(states, batch["alone mask"]), dim=-1)
        targets = losses.pair_targets(states.flatten(0, 1), vectors, batch)
        read, pooled = self.read(batch["ids"], batch["mask"], batch["types"])
        return losses.pair_losses(read, pooled, batch, targets, self.heads)

    @torch.no_grad()
    def held_out(self, vectors: Tensor) -> dict[str, float]:
        """1 - cosine of mean and first token, through the heads, to mpnet's vectors of the held-out texts."""
        count, found = self.settings.held_out, torch.zeros(2, device=self.device)
        rows = np.arange(len(self.rows["singles"]) - count, len(self.rows["singles"]))
        rows = rows[np.argsort(self.texts["singles"].lengths[rows])]
        for part in np.array_split(rows, -(-count // 128)):
            ids, mask = self.texts["singles"][part]
            states, _ = self.read(ids, mask)
            target = vectors[torch.from_numpy(part).to(self.device)].float()
            for place, (read, head) in enumerate(
                ((losses.mean(states, mask), self.heads.wider), (states[:, 0], self.heads.wider_first))
            ):
                found[place] += (1 - F.cosine_similarity(head(read), target, dim=-1)).sum()
        return dict(
            zip(("held mean", "held first"), (round(value / count, 4) for value in found.tolist()), strict=True)
        )

    @torch.no_grad()
    def _fit_heads(self, vectors: Tensor) -> None:
        """Start with the linear maps from the student's vectors to mpnet's that fit best before training."""
        rows = np.arange(0, len(vectors), max(1, len(vectors) // 16_384))
        rows = rows[np.argsort(self.texts["singles"].lengths[rows])]
        means, firsts = [], []
        for part in np.array_split(rows, -(-len(rows) // 256)):
            states, _ = self.read(*self.texts["singles"][part])
            _, mask = self.texts["singles"][part]
            means.append(F.normalize(losses.mean(states, mask), dim=-1))
            firsts.append(F.normalize(states[:, 0], dim=-1))
        target = vectors[torch.from_numpy(rows).to(self.device)].float()
        for head, parts in ((self.heads.wider, means), (self.heads.wider_first, firsts)):
            read = torch.cat(parts)
            penalty = 1e-3 * len(read) * torch.eye(read.shape[1], device=self.device) / read.shape[1]
            head.weight.data = torch.linalg.solve(read.T @ read + penalty, read.T @ target).T.contiguous()

    # The whole run.

    def train(self) -> None:
        settings, begun = self.settings, time.monotonic()
        torch.set_float32_matmul_precision("high")
        vectors = {name: self.read_by_mpnet(name) for name in self.texts}
        sides = tuple(vectors.pop(f"pairs.{side}").cpu().numpy() for side in "ab")
        told = {"vectors": len(vectors["singles"]), "seconds": round(time.monotonic() - begun, 1)}
        del self.mpnet
        self._fit_heads(vectors["singles"])
        print(json.dumps(told | self.held_out(vectors["singles"])), flush=True)
        trained = [*self.student.parameters(), *self.heads.parameters()]
        groups = ([p for p in trained if p.ndim > 1], [p for p in trained if p.ndim == 1])
        optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": settings.weight_decay * (group is groups[0])} for group in groups],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        singles = batches(
            self.texts["singles"].lengths[: -settings.held_out],
            rows=settings.rows,
            tokens=settings.most_tokens,
            window=settings.window,
            seed=settings.seed,
        )
        pairs = self._pairs(sides)
        started = mark = time.monotonic()
        step = tokens = marked = 0
        noted: dict[str, list[Tensor]] = {}
        while (done := (time.monotonic() - started) / (60 * settings.minutes)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * min(1.0, done / settings.warm_up + 0.01, max(0.005, 1 - done))
            if step % settings.pair_every == settings.pair_every - 1:
                batch = next(pairs)
                tokens += batch["ids"].numel()
                made = self.pair_step(batch)
            else:
                rows = next(singles)
                tokens += int(self.texts["singles"].lengths[rows].sum()) + 2 * len(rows)
                made = self.single_step(rows, vectors["singles"])
            torch.stack(list(made.values())).sum().backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            for name, value in made.items():
                noted.setdefault(name, []).append(value.detach())
            if step % settings.log_every == 0:
                means = {name: round(torch.stack(values).mean().item(), 4) for name, values in noted.items()}
                noted.clear()
                now = time.monotonic()
                speed = {"tokens_per_s": round((tokens - marked) / (now - mark)), "done": round(done, 3)}
                line = {"step": step, "tokens": tokens, **speed, **means}
                if step % (10 * settings.log_every) == 0:
                    line |= self.held_out(vectors["singles"])
                    self.save()
                print(json.dumps(line), flush=True)
                mark, marked = now, tokens
        self.save()
        ended = {"steps": step, "tokens": tokens, "seconds": round(time.monotonic() - started)}
        print(json.dumps(ended | self.held_out(vectors["singles"])), flush=True)

    def _pairs(self, vectors: tuple[NDArray[np.float16], ...]) -> Iterator[dict[str, Tensor]]:
        a, b = self.sides
        settings = self.settings
        made = batches(
            a.lengths + b.lengths,
            rows=settings.pairs,
            tokens=settings.most_tokens,
            window=min(16 * settings.pairs, len(a)),
            seed=settings.seed,
        )
        rows = [rows for rows in itertools.islice(made, 40_000 if settings.workers else 100) if len(rows) > 7]
        laid = LaidPairs(self, rows, (vectors[0], vectors[1]))
        return iter(
            DataLoader(
                laid,
                batch_size=1,
                collate_fn=as_is,
                num_workers=settings.workers,
                prefetch_factor=2 if settings.workers else None,
                pin_memory=self.device.type != "cpu",
            )
        )

    def save(self) -> None:
        """A plain Hugging Face folder in fp16."""
        folder = self.settings.out / "model"
        with torch.no_grad():
            student = BertModel(self.student.config)
            student.load_state_dict(self.student.state_dict())
        save(student.to(torch.float16), self.tokenizer, folder)
        save_file(
            {name: value.half().contiguous() for name, value in self.heads.state_dict().items()},
            folder / "heads.safetensors",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Settings):
        path = field.name in ("texts", "teachers", "out", "start_from")
        kind: Any = Path if path else type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, required=path, default=None if path else field.default)
    Run(Settings(**vars(parser.parse_args()))).train()


if __name__ == "__main__":
    main()
