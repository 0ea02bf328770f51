"""Teacher outputs that are computed once and cached: tempered distributions at masked positions, or embeddings."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.data.batches import attention_mask, stacked, token_budget_batches
from bort.data.corpus.rows import Row, TrainingRows
from bort.model.config import IGNORED
from bort.model.tokenization import ByteText
from bort.predict.sentence_encoder import EmbeddingTeacher, align
from bort.pretraining.distill.cache import Field, TeacherCache
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary

Items = dict[str, NDArray[Any]]
Done = Callable[[Sequence[int]], None]
"""Called with the indices of the rows of each batch, as soon as the teacher has read them."""
_CHUNK_ROWS = 1024
_BATCH_TOKENS = 8192
_SAMPLED_AT_ONCE = 1 << 24
"""Logits per call of `_sampled`, which takes 35 bytes for each."""


class TeacherTargets(Protocol):
    """Teacher outputs that a student learns and that are computed once and cached."""

    reads_masks: ClassVar[bool]
    """Whether the teacher reads rows masked as the student does, or unmasked."""

    @property
    def fields(self) -> dict[str, Field]:
        """What is cached per row: the type and shape of each item, by name."""

    @property
    def key(self) -> dict[str, Any]:
        """What the outputs depend on, apart from the rows."""

    def answers(self, rows: Sequence[Row], first: int, done: Done = ...) -> list[Items]:
        """Compute the outputs for rows, the first of which has the number `first`, and report each batch to `done`."""


@dataclass(frozen=True)
class LogitTargets:
    """The teacher's distribution at each masked position: its most probable tokens and a sample of the others.

    The k most probable tokens are kept with their tempered log-probabilities. The rest of the vocabulary is represented
    by `tail` samples, which share its probability: without them a student would learn that the rest has probability 0
    (Anshumann et al. 2025, "Sparse logit sampling"). So the loss is an unbiased estimate of the full one. Its variance
    is low because it compares the teacher's and the student's log-probabilities of the same token, and samples that are
    improbable for one are improbable for the other.

    Args:
        teacher: A masked LM.
        top_k: Most probable tokens kept per position.
        tail: Samples of the other tokens per position.
        temperature: T.
        dtype: Number type of the log-probabilities.
        pad_id: Id of the padding token.
    """

    teacher: MaskedLMTeacher
    top_k: int
    tail: int
    temperature: float
    dtype: str
    pad_id: int
    reads_masks: ClassVar[bool] = True

    @property
    def fields(self) -> dict[str, Field]:
        """Ids and log-probabilities of each masked position."""
        samples = self._top_k + self.tail
        ids = "uint16" if self.teacher.size <= 1 << 16 else "int32"
        return {
            "ids": Field(ids, (samples,)),
            "log_p": Field(self.dtype, (samples,)),
        }

    @property
    def key(self) -> dict[str, Any]:
        """Kind, teacher and settings."""
        return {
            "lesson": "logits",
            "teacher": fingerprint(self.teacher.model, self.teacher.source),
            "top_k": self.top_k,
            "tail": self.tail,
            "temperature": self.temperature,
            "dtype": self.dtype,
            **self.teacher.key,
        }

    @property
    def _top_k(self) -> int:
        return min(self.top_k, self.teacher.size)

    def answers(self, rows: Sequence[Row], first: int, done: Done = lambda batch: None) -> list[Items]:
        """Run the teacher in batches of similar lengths; `first` is the random seed of the samples."""
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
            done(batch)
        return found


def sample(logits: Tensor, top_k: int, tail: int, temperature: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample a few tokens that represent a distribution; `weights_of` gives their weights.

    Args:
        logits: *Shape:* (positions, V).
        top_k: Number of most probable tokens to take.
        tail: Number of samples of the other tokens, in proportion to their probabilities. Sampling is systematic: one
            sample from each of `tail` equal parts of their sorted probability mass, from probable to improbable.
        temperature: T.
        rng: Random generator of the samples.

    Returns:
        Ids and log-probabilities, those of the samples last. *Shape:* (positions, top_k + tail).
    """
    first = torch.rand(len(logits), 1, generator=rng, device=logits.device, dtype=torch.float64)
    rows = max(1, _SAMPLED_AT_ONCE // logits.shape[-1])
    # All starts are drawn together, so that the samples do not depend on the slices.
    slices = zip(torch.split(logits, rows), torch.split(first, rows), strict=True)
    parts = [_sampled(*part, top_k, tail, temperature) for part in slices]
    ids, log_p = (torch.cat(part) for part in zip(*parts, strict=True))
    return ids, log_p


def _sampled(logits: Tensor, first: Tensor, top_k: int, tail: int, temperature: float) -> tuple[Tensor, Tensor]:
    log_p = torch.log_softmax(logits.float() / temperature, -1)
    top = log_p.topk(top_k, -1)
    if not tail:
        return top.indices, top.values - top.values.logsumexp(-1, keepdim=True)
    ranked = log_p.scatter(-1, top.indices, -torch.inf).sort(-1, descending=True)
    below = ranked.values.double().exp().cumsum(-1)
    steps = (first + torch.arange(tail, device=logits.device)) / tail * below[:, -1:]
    last = max(log_p.shape[-1] - top_k, 1) - 1  # the tokens that are already taken come after it
    drawn = ranked.indices.gather(-1, torch.searchsorted(below, steps).clamp_max(last))
    return torch.cat([top.indices, drawn], -1), torch.cat([top.values, log_p.gather(-1, drawn)], -1)


def weights_of(log_p: Tensor, tail: int) -> Tensor:
    """Weights of sampled tokens: the most probable have their own probability, samples share the rest equally.

    Args:
        log_p: Log-probabilities from `sample`. *Shape:* (positions, samples).
        tail: How many of them, at the end, are samples.

    Returns:
        *Shape:* (positions, samples); the weights of each position sum to 1.
    """
    if not tail:
        return log_p.softmax(-1)
    probable = log_p[..., :-tail].exp()
    total = probable.sum(-1, keepdim=True)
    # Rounded probabilities may sum to slightly more than 1.
    drawn = ((1 - total).clamp_min(0.0) / tail).expand(*log_p.shape[:-1], tail)
    return torch.cat([probable / total.clamp_min(1.0), drawn], -1)


@dataclass(frozen=True)
class EmbeddingTargets:
    """The teacher's pooled vector of each row and, by layer, the vector of each of its tokens.

    Args:
        teacher: An encoder.
        reader: How it reads a row: as text, or as the student's own ids.
        layers: Teacher layers, counted from 1, whose token vectors are kept.
        dtype: Number type of the vectors.
    """

    teacher: EmbeddingTeacher
    reader: ByteText | SharedVocabulary
    layers: tuple[int, ...]
    dtype: str
    reads_masks: ClassVar[bool] = False

    @property
    def fields(self) -> dict[str, Field]:
        """One pooled vector, and per layer the vector of each of the student's ordinary tokens."""
        token = Field(self.dtype, (self.teacher.hidden_size,))
        return {"pooled": Field(self.dtype, (self.teacher.size,))} | {f"layer_{n}": token for n in self.layers}

    @property
    def key(self) -> dict[str, Any]:
        """Kind, teacher and settings."""
        return {
            "lesson": "embeddings" if isinstance(self.reader, ByteText) else "embeddings of ids",
            "teacher": fingerprint(self.teacher.model, self.teacher.source),
            "pooling": dict(self.teacher.modules.described),
            "dtype": self.dtype,
        }

    def answers(self, rows: Sequence[Row], first: int, done: Done = lambda batch: None) -> list[Items]:
        """Run the teacher on the `input_ids` of the rows."""
        if isinstance(self.reader, ByteText):
            return self._of_texts(rows, self.reader, done)
        return self._of_ids(rows, self.reader, done)

    def _of_texts(self, rows: Sequence[Row], reader: ByteText, done: Done) -> list[Items]:
        texts, spans = zip(*(reader.decode(row["input_ids"][1:-1]) for row in rows), strict=True)
        pooled, vectors, offsets = self.teacher.encode(texts, self.layers, done)
        return [
            {"pooled": pooled[n : n + 1]}
            | {f"layer_{layer}": align(vectors[n][layer], offsets[n], spans[n]) for layer in self.layers}
            for n in range(len(rows))
        ]

    def _of_ids(self, rows: Sequence[Row], reader: SharedVocabulary, done: Done) -> list[Items]:
        found: list[Items] = [{} for _ in rows]
        for batch in _batches([len(row["input_ids"]) for row in rows]):
            ids, mask = pad([rows[index]["input_ids"] for index in batch], 0)
            pooled, hidden = reader.read(self.teacher, ids, mask, self.layers)
            for place, index in enumerate(batch):
                found[index] = {"pooled": pooled[place : place + 1].cpu().numpy()}
                last = len(rows[index]["input_ids"]) - 1
                for layer, vectors in hidden.items():
                    found[index][f"layer_{layer}"] = vectors[place, 1:last].cpu().numpy()
            done(batch)
        return found


def cached_targets(
    targets: TeacherTargets,
    rows: TrainingRows,
    folder: str | Path,
    corpus: str,
    progress: Callable[[int, int], None] = lambda done, tokens: None,
    *,
    held_out: str | None = None,
) -> TeacherCache:
    """Run a teacher on all distinct rows that are not in the cache yet.

    Args:
        targets: The outputs to compute.
        rows: The rows, numbered from 0 to `rows_per_epoch` - 1.
        folder: Folder of the cache.
        corpus: Fingerprint of the corpus.
        held_out: Fingerprint of its held-out part, if the rows come from that and `corpus` says nothing about it.
        progress: Called after each batch with the number of rows so far, and of tokens that the teacher read now.

    Raises:
        BortError: The folder holds the cache of other rows or of another teacher, or something else; or another process
            is filling it.
    """
    if not targets.reads_masks:
        rows = rows.unmasked()
    key = {"corpus": corpus, **rows.key, **targets.key}
    if held_out is not None:
        key["held_out"] = held_out
    cache = TeacherCache(folder, key, targets.fields, rows.rows_per_epoch)
    read, tokens, chunk = cache.done, 0, list[Row]()

    def done(batch: Sequence[int]) -> None:
        nonlocal read, tokens
        read, tokens = read + len(batch), tokens + sum(len(chunk[index]["input_ids"]) for index in batch)
        progress(read, tokens)

    # The traceback of an interrupted call, which a notebook keeps, holds the cache and would hold its lock.
    with contextlib.closing(cache):
        while not cache.complete:
            first = cache.done
            chunk = [rows.numbered(number) for number in range(first, min(first + _CHUNK_ROWS, cache.rows))]
            cache.append(targets.answers(chunk, first, done))
    return cache


def pad(rows: Sequence[NDArray[np.int64]], value: int) -> tuple[Tensor, Tensor | None]:
    """Pad and stack rows, and return their attention mask, or None if all have the same length.

    *Shapes:* (batch, longest) each.
    """
    lengths = [len(row) for row in rows]
    whole = min(lengths) == max(lengths)
    return torch.from_numpy(stacked(rows, value)), None if whole else torch.from_numpy(attention_mask(lengths))


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    return token_budget_batches(lengths, max_tokens=_BATCH_TOKENS, max_rows=_BATCH_TOKENS)


def fingerprint(model: Any, source: str) -> str:
    """A hash of a loaded model's files, or of its name and commit if it comes from the hub."""
    folder, digest = Path(source), hashlib.sha256()
    files = sorted(file for file in folder.glob("*") if file.suffix in (".safetensors", ".bin"))
    for file in [*files, folder / "config.json"] if files else []:
        with open(file, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    if not files:
        digest.update(f"{source} {getattr(model.config, '_commit_hash', None)}".encode())
    return digest.hexdigest()
