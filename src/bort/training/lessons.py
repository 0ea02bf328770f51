"""What is asked of a teacher once and kept: its tempered distributions at masked positions, or its embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.data.training_rows import Row, TrainingRows
from bort.model.byte_text import ByteText
from bort.model.config import IGNORED
from bort.training.embedding_teachers import EmbeddingTeacher, align
from bort.training.teacher_cache import Field, TeacherCache
from bort.training.teachers import MaskedLMTeacher

Items = dict[str, NDArray[Any]]
_CHUNK_ROWS = 1024
_BATCH_TOKENS = 8192


class Lesson(Protocol):
    """A kind of question to a teacher."""

    fields: dict[str, Field]
    """What is kept of a row."""

    key: dict[str, Any]
    """What the answers depend on, besides the rows."""

    def answers(self, rows: Sequence[Row], first: int) -> list[Items]:
        """The answers for rows, the first of which has the number `first`."""


@dataclass(frozen=True)
class LogitsLesson:
    """The teacher's distribution at each masked position: its most probable tokens and a sample of the others.

    The k most probable tokens are kept with their tempered log-probabilities. The rest of the vocabulary is stood
    for by `tail` draws from it, which share its probability: without them a student would learn that the rest has none
    (Anshumann et al. 2025, "Sparse logit sampling"). So the loss is an unbiased estimate of the full one's.

    Args:
        teacher: A masked LM.
        top_k: Tokens kept of each position.
        tail: Draws from the others.
        temperature: T.
        dtype: Of the log-probabilities.
        pad_id: Padding of the rows.
    """

    teacher: MaskedLMTeacher
    top_k: int
    tail: int
    temperature: float
    dtype: str
    pad_id: int

    @property
    def fields(self) -> dict[str, Field]:
        """Ids, log-weights and the full entropy of each masked position."""
        samples = self._top_k + self.tail
        ids = "uint16" if self._vocab_size <= 1 << 16 else "int32"
        return {
            "ids": Field(ids, (samples,)),
            "log_weights": Field(self.dtype, (samples,)),
            "entropy": Field("float32"),
        }

    @property
    def key(self) -> dict[str, Any]:
        """What is kept."""
        return {
            "lesson": "logits",
            "teacher": fingerprint(self.teacher.model, self.teacher.source),
            "top_k": self.top_k,
            "tail": self.tail,
            "temperature": self.temperature,
            "dtype": self.dtype,
        }

    @property
    def _vocab_size(self) -> int:
        return int(self.teacher.model.config.vocab_size)

    @property
    def _top_k(self) -> int:
        return min(self.top_k, self._vocab_size)

    def answers(self, rows: Sequence[Row], first: int) -> list[Items]:
        """In batches of like length; the draws depend on `first` alone."""
        rng = torch.Generator(self.teacher.device).manual_seed(first)
        found: list[Items] = [{} for _ in rows]
        for batch in _batches([len(row["input_ids"]) for row in rows]):
            ids, mask = pad([rows[index]["input_ids"] for index in batch], self.pad_id)
            labels, _ = pad([rows[index]["labels"] for index in batch], IGNORED)
            logits = self.teacher.logits(ids.to(self.teacher.device), labels.to(self.teacher.device), mask)
            sampled = [part.cpu().numpy() for part in sample(logits, self._top_k, self.tail, self.temperature, rng)]
            stops = np.cumsum([int((rows[index]["labels"] != IGNORED).sum()) for index in batch])
            for index, stop, start in zip(batch, stops, [0, *stops[:-1]], strict=True):
                found[index] = dict(zip(self.fields, (part[start:stop] for part in sampled), strict=True))
        return found


def sample(
    logits: Tensor, top_k: int, tail: int, temperature: float, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A few weighted tokens that stand for a distribution.

    Args:
        logits: *Shape:* (positions, V).
        top_k: Most probable tokens to take.
        tail: Draws, with replacement, from the others, which share their probability.
        temperature: T.
        rng: Source of the draws.

    Returns:
        Ids and log-weights, *shape* (positions, top_k + tail), and the entropy, *shape* (positions,).
    """
    log_p = torch.log_softmax(logits.float() / temperature, -1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1)
    top = log_p.topk(top_k, -1)
    if not tail:
        rescaled = top.values - top.values.logsumexp(-1, keepdim=True)
        return top.indices, rescaled, entropy
    others = p.scatter(-1, top.indices, 0.0)
    mass = others.sum(-1, keepdim=True)
    drawn = torch.multinomial(others.clamp_min(1e-30), tail, replacement=True, generator=rng)
    share = (mass / tail).log().expand(-1, tail)  # -inf, a weight of 0, where nothing is left
    return torch.cat([top.indices, drawn], -1), torch.cat([top.values, share], -1), entropy


@dataclass(frozen=True)
class EmbeddingLesson:
    """The teacher's pooled vector of each row's text and, by layer, the vector of each of its tokens.

    Args:
        teacher: An encoder of any vocabulary.
        text: Turns the student's ids into text.
        layers: Layers of the teacher, counted from 1.
        dtype: Of the vectors.
    """

    teacher: EmbeddingTeacher
    text: ByteText
    layers: tuple[int, ...]
    dtype: str

    @property
    def fields(self) -> dict[str, Field]:
        """One pooled vector, and a vector of each ordinary token for each layer."""
        size = (self.teacher.size,)
        return {"pooled": Field(self.dtype, size)} | {f"layer_{n}": Field(self.dtype, size) for n in self.layers}

    @property
    def key(self) -> dict[str, Any]:
        """What is kept."""
        return {
            "lesson": "embeddings",
            "teacher": fingerprint(self.teacher.model, self.teacher.source),
            "pooling": self.teacher.pooling,
            "layers": list(self.layers),
            "dtype": self.dtype,
        }

    def answers(self, rows: Sequence[Row], first: int) -> list[Items]:
        """Of the unmasked rows."""
        texts, spans = zip(*(self.text.decode(row["input_ids"][1:-1]) for row in rows), strict=True)
        pooled, vectors, offsets = self.teacher.encode(texts, self.layers)
        return [
            {"pooled": pooled[n : n + 1]}
            | {f"layer_{layer}": align(vectors[n][layer], offsets[n], spans[n]) for layer in self.layers}
            for n in range(len(rows))
        ]


def learn(
    lesson: Lesson,
    rows: TrainingRows,
    folder: str | Path,
    corpus: str,
    progress: Callable[[int, int], None] = lambda done, tokens: None,
) -> TeacherCache:
    """Ask a teacher about every distinct row, or about those that it has not been asked about yet.

    Args:
        lesson: What to ask.
        rows: Their numbers run from 0 to `rows_per_epoch`.
        folder: Of the cache.
        corpus: Fingerprint of the corpus.
        progress: Called with the rows that are done, and the tokens that this call asked about.

    Raises:
        BortError: The folder holds the cache of other rows, of another teacher, or something else.
    """
    key = {"corpus": corpus, **rows.key, **lesson.key}
    cache = TeacherCache(folder, key, lesson.fields, rows.rows_per_epoch)
    tokens = 0
    while not cache.complete:
        first = cache.done
        chunk = [rows.numbered(number) for number in range(first, min(first + _CHUNK_ROWS, cache.rows))]
        cache.append(lesson.answers(chunk, first))
        tokens += sum(len(row["input_ids"]) for row in chunk)
        progress(cache.done, tokens)
    return cache


def pad(rows: Sequence[NDArray[np.int64]], value: int) -> tuple[Tensor, Tensor | None]:
    """Stack rows, and say which positions are theirs; None where all are as long as each other.

    *Shapes:* (batch, longest) each.
    """
    lengths = [len(row) for row in rows]
    if min(lengths) == max(lengths):
        return torch.from_numpy(np.stack(rows)), None
    padded = np.full((len(rows), max(lengths)), value, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    mask = np.arange(max(lengths))[None] < np.array(lengths)[:, None]
    return torch.from_numpy(padded), torch.from_numpy(mask.astype(np.int64))


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    from bort.data.batches import token_budget_batches

    return token_budget_batches(lengths, max_tokens=_BATCH_TOKENS, max_rows=_BATCH_TOKENS)


def fingerprint(model: Any, source: str) -> str:
    """A hash of a loaded model's files; of its name and commit where the hub holds them."""
    folder, digest = Path(source), hashlib.sha256()
    files = sorted(file for file in folder.glob("*") if file.suffix in (".safetensors", ".bin"))
    for file in [*files, folder / "config.json"] if files else []:
        with open(file, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    if not files:
        digest.update(f"{source} {getattr(model.config, '_commit_hash', None)}".encode())
    return digest.hexdigest()
