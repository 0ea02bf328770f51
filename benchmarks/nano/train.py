"""Train bort-nano: a shrunk sentence encoder that follows its teacher, alone and in pairs.

    python -m benchmarks.nano.train --texts build/nano/texts --teacher MINILM --out build/nano/run --tokens 25000000

The same command goes on from the last checkpoint (kill it at any time). Every draw is a function of the seed and of
the step's number, and there is no dropout, so a checkpoint needs no generator's state: weights, optimizer and step are
all.
`--start_from FOLDER` begins a new decay from a saved model's weights. `--device cuda` computes on a GPU, the teacher
beside the student. With `--minutes` time ends the run instead of tokens; the same command with more of them goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from benchmarks.nano import losses
from benchmarks.nano.devices import device_of, moved, precision_of
from benchmarks.nano.pairs import Edit, Laid, Words, join, lay, lexical
from benchmarks.nano.rows import Rows, batches, padded
from benchmarks.nano.second_teacher import Vectors
from benchmarks.nano.student import inherited, saved
from bort.files import write_aside
from bort.model.checkpoints import save
from bort.model.tokenization import load_tokenizer


@dataclass(frozen=True)
class Settings:
    """How it trains.

    Args:
        texts: Folder that `prepare` wrote.
        teacher: A BERT sentence encoder whose mean is its vector.
        out: Where checkpoints, models and the log go.
        tokens: Tokens that the student reads until the learning rate has fallen to a fiftieth.
        minutes: Minutes of training, all parts of a resumed run together, until it has fallen so far; 0 leaves it to
            the tokens.
        device: Where student and teacher compute, in bf16 where it can.
        start_from: Weights to start from; by default the teacher's.
        skip_batches: Batches of single texts and of pairs that an earlier run has read.
        layers: The teacher's layers that are inherited.
        rows: Texts of a batch.
        pairs: True pairs of a batch of pairs; as many again are made of them.
        edits: Texts of a batch of pairs that stand beside an edit of themselves.
        pair_every: One step in so many reads pairs.
        second: Folder of a second teacher's vectors, as `second_teacher` writes it.
        second_share: Share of the single texts' steps that follow the second teacher instead.
        alone: Weight of the first teacher's vectors of texts read alone, beside a second teacher.
        held_out: Texts at the end that are never trained on.
    """

    texts: Path
    teacher: Path
    out: Path
    tokens: int = 25_000_000
    minutes: float = 0.0
    device: str = "cpu"
    start_from: Path | None = None
    skip_batches: int = 0
    layers: tuple[int, ...] = (0, 2, 5)
    learning_rate: float = 6e-4
    warm_up: float = 0.02
    weight_decay: float = 0.01
    clip: float = 1.0
    rows: int = 128
    most_tokens: int = 6144
    pairs: int = 32
    edits: int = 12
    pair_every: int = 5
    second: Path | None = None
    second_share: float = 0.6
    alone: float = 1.0
    held_out: int = 1024
    snapshots: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
    save_every: int = 300
    log_every: int = 50
    seed: int = 0


class Run:
    """Student, teacher, texts and the place reached."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.device = settings, device_of(settings.device)
        self.precision = precision_of(self.device)
        self.kept = torch.from_numpy(np.load(settings.texts / "kept.npy"))
        self.tokenizer = load_tokenizer(settings.texts)
        teacher = BertModel.from_pretrained(settings.teacher, dtype=torch.float32, attn_implementation="eager").eval()
        torch.manual_seed(settings.seed)
        self.student = self._student(teacher).to(self.device)
        self.teacher = teacher.to(self.device, self.precision)
        self.kept = self.kept.to(self.device)
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.started: float | None = None
        self.singles, self.a, self.b = (Rows.open(settings.texts / name) for name in ("singles", "pairs.a", "pairs.b"))
        self.words = Words.of(
            self.tokenizer.convert_ids_to_tokens(list(range(len(self.kept)))), self.singles.ids[:8_000_000]
        )
        self.cls, self.sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        self.heads = losses.Heads(self.student.config.hidden_size)
        if settings.start_from is not None and (file := settings.start_from / "heads.safetensors").is_file():
            self.heads.load_state_dict(load_file(file), strict=False)
        self.heads.to(self.device)
        self.second = Vectors.open(settings.second) if settings.second else None
        if self.second is not None:
            self.heads.wider = self._wider(self.second)
        self.trained: list[nn.Parameter] = [*self.student.parameters(), *self.heads.parameters()]
        decayed = [p for p in self.trained if p.ndim > 1]
        plain = [p for p in self.trained if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def _student(self, teacher: BertModel) -> BertModel:
        if self.settings.start_from is not None:
            student = saved(self.settings.start_from, teacher, self.kept, self.tokenizer)
        else:
            student = inherited(teacher, self.settings.layers, self.kept)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return student.train()

    def _wider(self, second: Vectors) -> nn.Linear:
        """The map from the student's means to the second teacher's vectors that fits best before training."""
        rows, target = second[np.arange(0, len(second.rows), max(1, len(second.rows) // 8192))]
        (target,) = moved(self.device, target)
        with torch.no_grad():
            means = torch.cat([self._means(rows[start : start + 64]) for start in range(0, len(rows), 64)])
        penalty = 1e-3 * len(means) * torch.eye(means.shape[1], device=self.device)
        wider = nn.Linear(means.shape[1], second.size, bias=False)
        wider.weight.data = torch.linalg.solve(means.T @ means + penalty, means.T @ target).T.contiguous()
        return wider

    def _means(self, rows: np.ndarray) -> Tensor:
        ids, mask = self.padded([self.singles[int(row)] for row in rows])
        return F.normalize(losses.mean(self.read(ids, mask)[0], mask), dim=-1)

    # What both read.

    def padded(self, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask on the device. *Shapes:* (texts, seq) twice."""
        ids, mask = moved(self.device, *padded(texts, self.cls, self.sep))
        return ids, mask

    def teach(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The teacher's states. *Shape:* (texts, seq) -> (texts, seq, H)."""
        with torch.no_grad():
            return self.teacher(input_ids=self.kept[ids], attention_mask=mask).last_hidden_state.float()

    def teach_sorted(self, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The same in parts of similar length. *Shapes:* (texts, seq, H) and the vectors (texts, H)."""
        longest = max(map(len, texts)) + 2
        states = torch.zeros(len(texts), longest, self.student.config.hidden_size, device=self.device)
        vectors = torch.zeros(len(texts), self.student.config.hidden_size, device=self.device)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        size = 32 if self.device.type == "cpu" else len(order)  # a GPU has more to do in one part
        for start in range(0, len(order), size):
            part = order[start : start + size]
            ids, mask = self.padded([texts[number] for number in part])
            made = self.teach(ids, mask)
            states[part, : made.shape[1]] = made
            vectors[part] = F.normalize(losses.mean(made, mask), dim=-1)
        return states, vectors

    def read(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The student's states and pooled first token. *Shapes:* (texts, seq, H), (texts, H)."""
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            read = self.student(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return read.last_hidden_state.float(), read.pooler_output.float()

    @staticmethod
    def tokens_of(texts: Rows, rows: np.ndarray) -> int:
        """Tokens of texts read alone, the two special ones of each counted."""
        return int((texts.starts[rows + 1] - texts.starts[rows] + 2).sum())

    # One step of each kind.

    def single_step(self, rows: np.ndarray) -> tuple[dict[str, Tensor], int]:
        ids, mask = self.padded([self.singles[int(row)] for row in rows])
        made = losses.single_losses(*self.read(ids, mask), self.teach(ids, mask), mask, self.heads)
        if self.second is not None:
            made |= {name: self.settings.alone * made[name] for name in ("mean", "first")}
        return made, self.tokens_of(self.singles, rows)

    def second_step(self, places: np.ndarray) -> tuple[dict[str, Tensor], int]:
        assert self.second is not None
        rows, target = self.second[places]
        ids, mask = self.padded([self.singles[int(row)] for row in rows])
        states, _ = self.read(ids, mask)
        (target,) = moved(self.device, target)
        return losses.second_losses(states, target, mask, self.heads.wider), self.tokens_of(self.singles, rows)

    def pair_step(self, rows: np.ndarray, rng: random.Random) -> tuple[dict[str, Tensor], int]:
        texts = [self.a[int(row)] for row in rows] + [self.b[int(row)] for row in rows]
        true, edits = len(rows), []
        donors = rng.sample(range(len(self.singles) - self.settings.held_out), 2 * self.settings.edits)
        for number, donor in zip(donors[::2], donors[1::2], strict=True):
            text = self.singles[number][:70]
            if len(text) < 3:
                continue
            edited, done = self.words.edit(text, self.singles[donor], rng.choice(list(Edit)), rng)
            texts += [text, edited]
            edits.append(done)
        states, vectors = self.teach_sorted(texts)
        joined = join(vectors, true, edits, rng)
        laid = lay(texts, joined, states.shape[1], self.cls, self.sep)
        tokens = int(laid.mask.sum())
        laid = Laid(*moved(self.device, laid.ids, laid.types, laid.mask, laid.source, laid.side))
        targets = losses.pair_targets(
            states.flatten(0, 1),
            vectors[joined.first],
            vectors[joined.second],
            laid,
            *moved(
                self.device,
                lexical(texts, joined, self.words.idf),
                torch.from_numpy(joined.related),
                torch.from_numpy(joined.edit),
            ),
        )
        read, pooled = self.read(laid.ids, laid.mask, laid.types)
        return losses.pair_losses(read, pooled, laid, targets, self.heads), tokens

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """1 - cosine of mean and of first token on texts never trained on."""
        settings, found = self.settings, []
        rows = sorted(
            range(len(self.singles) - settings.held_out, len(self.singles)), key=lambda r: len(self.singles[r])
        )
        for start in range(0, len(rows), 64):
            ids, mask = self.padded([self.singles[row] for row in rows[start : start + 64]])
            target = losses.mean(self.teach(ids, mask), mask)
            states, _ = self.read(ids, mask)
            for vectors in (losses.mean(states, mask), states[:, 0]):
                found.append((1 - F.cosine_similarity(vectors, target, dim=-1)).sum().item())
        return {"held mean": sum(found[::2]) / len(rows), "held first": sum(found[1::2]) / len(rows)}

    # The whole.

    def elapsed(self) -> float:
        """Seconds of training so far, those before the last checkpoint included."""
        return self.seconds + (0.0 if self.started is None else time.monotonic() - self.started)

    def progress(self) -> float:
        """Share of the run that is done: of its minutes, where it has some, else of its tokens."""
        if self.settings.minutes:
            return self.elapsed() / (60 * self.settings.minutes)
        return self.tokens / self.settings.tokens

    def rate(self, done: float) -> float:
        return self.settings.learning_rate * min(1.0, done / self.settings.warm_up + 0.01, max(0.02, 1 - done))

    def kind(self, step: int) -> str:
        """What a step reads: `single`, `second` or `pair`."""
        every, share = self.settings.pair_every, self.settings.second_share
        if step % every == every - 1:
            return "pair"
        return "second" if self.second is not None and (step * share) % 1 < share else "single"

    def train(self) -> None:
        settings = self.settings
        self.resume()
        done = Counter(map(self.kind, range(self.step)))
        lengths = {
            "single": self.singles.lengths[: -settings.held_out],
            "pair": self.a.lengths + self.b.lengths,
        }
        if self.second is not None:
            lengths["second"] = self.singles.lengths[self.second.rows]
        read = {"single": settings.skip_batches, "pair": settings.skip_batches // (settings.pair_every - 1)}
        taken = {
            kind: batches(
                found,
                rows=settings.pairs if kind == "pair" else settings.rows,
                tokens=settings.most_tokens,
                window=5120,
                seed=settings.seed,
                skip=read.get(kind, 0) + done[kind],
            )
            for kind, found in lengths.items()
        }
        noted: dict[str, list[Tensor]] = {}
        self.started = mark = time.monotonic()
        mark_tokens, done_share = self.tokens, self.progress()
        while done_share < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(done_share)
            kind = self.kind(self.step)
            batch = next(taken[kind])
            if kind == "pair":
                made, tokens = self.pair_step(batch, random.Random(f"{settings.seed} {self.step}"))
            else:
                made, tokens = self.single_step(batch) if kind == "single" else self.second_step(batch)
            torch.stack(list(made.values())).sum().backward()
            nn.utils.clip_grad_norm_(self.trained, settings.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.tokens += tokens
            self.step += 1
            before, done_share = done_share, self.progress()
            for name, value in made.items():
                noted.setdefault(name, []).append(value.detach())
            if self.step % settings.log_every == 0:
                means = {name: sum(torch.stack(values).tolist()) / len(values) for name, values in noted.items()}
                noted.clear()
                now = time.monotonic()
                line: dict[str, Any] = {
                    "time": time.strftime("%H:%M:%S"),
                    "step": self.step,
                    "tokens": self.tokens,
                    "tokens_per_s": round((self.tokens - mark_tokens) / (now - mark)),
                    "rate": round(self.rate(done_share), 7),
                    **{name: round(value, 4) for name, value in means.items()},
                }
                if self.step % (20 * settings.log_every) == 0:
                    line |= {name: round(value, 4) for name, value in self.held_out().items()}
                print(json.dumps(line), flush=True)
                mark, mark_tokens = now, self.tokens
            for share in settings.snapshots:
                if before < share <= done_share:
                    self.save_model(settings.out / f"at-{share:.4f}")
            if self.step % settings.save_every == 0:
                self.save()
        self.save()
        self.save_model(settings.out / "model")
        print(json.dumps({"done": self.tokens, "seconds": round(self.elapsed()), **self.held_out()}), flush=True)

    def save_model(self, folder: Path) -> None:
        """A plain Hugging Face folder in fp16."""
        student = copy.deepcopy(self.student).to(torch.float16)
        save(student, self.tokenizer, folder)
        save_file(self.heads.state_dict(), folder / "heads.safetensors")

    def save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "place": {"step": self.step, "tokens": self.tokens, "seconds": self.elapsed()},
        }
        self.settings.out.mkdir(parents=True, exist_ok=True)
        with write_aside(self.settings.out / "checkpoint.pt", "wb") as file:
            torch.save(state, file)

    def resume(self) -> None:
        file = self.settings.out / "checkpoint.pt"
        if file.is_file():
            state = torch.load(file, weights_only=True, map_location=self.device)
            self.student.load_state_dict(state["student"])
            self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.tokens = state["place"]["step"], state["place"]["tokens"]
            self.seconds = state["place"]["seconds"]
            print(json.dumps({"resumed": self.step, "tokens": self.tokens}), flush=True)
        else:
            described = {name: str(value) for name, value in asdict(self.settings).items()}
            print(json.dumps({"settings": described, "parameters": sum(p.numel() for p in self.student.parameters())}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Settings):
        kind: Any = Path if field.name in ("texts", "teacher", "out", "start_from", "second") else type(field.default)
        if not isinstance(field.default, tuple):
            needed = field.name in ("texts", "teacher", "out")
            parser.add_argument(
                f"--{field.name}", type=kind, required=needed, default=None if needed else field.default
            )
    Run(Settings(**vars(parser.parse_args()))).train()


if __name__ == "__main__":
    main()
