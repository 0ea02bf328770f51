"""Candidates that learn their teacher's embeddings, of texts and of their tokens.

For token vectors, the teacher reads each candidate's own ids, so that tokens can be compared one by one. For text
vectors, it uses its whole vocabulary, which penalises a cut vocabulary that splits words into many pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.bounds import Precision
from bort.errors import BortError
from bort.model.devices import best_device
from bort.ose.inherited import InheritedEncoder
from bort.ose.short_training import LEAST_ERROR, Batches, autocast, moved
from bort.ose.space import Shape
from bort.ose.texts import TextRows
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.predict.sentence_modules import SentenceModules
from bort.pretraining.distill.cache import TeacherCache
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary
from bort.pretraining.distill.targets import EmbeddingTargets, cached_targets
from bort.pretraining.taught_rows import Batch, TaughtRows
from bort.progress import bar

_SIMILARITY = 5.0
_DTYPE = "float16"


def apart(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, plus 5 times the squared difference of the batch's cosines. *Shape:* (texts, H) twice -> ()."""
    s, t = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return (1 - (s * t).sum(-1)).mean() + _SIMILARITY * F.mse_loss(s @ s.T, t @ t.T)


@dataclass(frozen=True)
class EmbeddingLesson:
    """A `bort.ose.short_training.Lesson` on the teacher's embeddings.

    Args:
        inherited: The encoder whose parts are the members.
        training: Batches by vocabulary size, with the teacher's outputs.
        held_out: Batches by vocabulary size, with the teacher's vector of each text.
        poolings: How token vectors are pooled into text vectors.
        precision: Precision of the computation.
    """

    inherited: InheritedEncoder
    training: Mapping[int, Sequence[Batch]]
    held_out: Mapping[int, Sequence[Batch]]
    poolings: tuple[str, ...]
    precision: Precision

    @property
    def perfect(self) -> float:
        """A negligible error."""
        return LEAST_ERROR

    @property
    def starts_trained(self) -> bool:
        """True: members inherit weights."""
        return True

    def start(self, shape: Shape, seed: int) -> PreTrainedModel:
        """A member with inherited weights, whatever the seed."""
        return self.inherited.encoder(shape)

    def batches(self, shape: Shape) -> Sequence[Batch]:
        """The batches of the shape's vocabulary."""
        return self.training[self._size(shape)]

    def tokenizer(self, shape: Shape) -> PreTrainedTokenizerFast:
        """The tokenizer of the shape's vocabulary."""
        return self.inherited.tokenizer_of(shape)

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The distance of the texts (`apart`), plus 1 - cosine of the tokens."""
        pooled, states = self._read(model, batch)
        flat = states.flatten(0, 1).index_select(0, batch["ordinary"])
        theirs = next(values for name, values in batch.items() if name.startswith("layer_")).float()
        of_tokens = 1 - F.cosine_similarity(flat, theirs, dim=-1)
        return apart(pooled, batch["pooled"].float()) + of_tokens.sum() / max(len(of_tokens), 1)

    @torch.no_grad()
    def error(self, model: Any, shape: Shape) -> float:
        """Mean of 1 - cosine to the teacher's vector, over the held-out texts."""
        model.eval()
        distances = []
        for batch in self.held_out[self._size(shape)]:
            moved_batch = moved(batch, best_device())
            pooled, _ = self._read(model, moved_batch)
            distances.append(1 - F.cosine_similarity(pooled, moved_batch["pooled"].float(), dim=-1))
        # With half-precision targets, the error of a perfect student may be slightly below 0.
        found = float(torch.cat(distances).double().mean())
        return max(found, LEAST_ERROR) if np.isfinite(found) else float("nan")

    def in_memory(self) -> EmbeddingLesson:
        """The same lesson with all batches in memory."""
        training, held_out = (
            {size: list(batches) for size, batches in part.items()} for part in (self.training, self.held_out)
        )
        return replace(self, training=training, held_out=held_out)

    def _size(self, shape: Shape) -> int:
        return shape.vocabulary or self.inherited.config.vocab_size

    def _read(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the texts and of all positions. *Shapes:* (texts, D), (texts, seq, H)."""
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        with autocast(self.precision):
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        states = states.float()
        return SentenceModules(self.poolings)(states, mask), states


@dataclass(frozen=True)
class LessonTexts:
    """The texts of a lesson.

    Args:
        training: Texts to train on.
        held_out: Texts to measure the error on.
        steps: Number of training batches.
        rows_per_step: Texts per batch.
        row_length: Maximum tokens per row.
        seed: Random seed of the order.
    """

    training: Sequence[str]
    held_out: Sequence[str]
    steps: int
    rows_per_step: int
    row_length: int
    seed: int


def embedding_lesson(
    inherited: InheritedEncoder, sizes: Sequence[int], texts: LessonTexts, folder: Path, precision: Precision, name: str
) -> EmbeddingLesson:
    """Run the teacher on all texts, for each vocabulary, or read its cached outputs.

    Args:
        inherited: The encoder with the vocabularies of the space.
        sizes: Sizes of these vocabularies.
        texts: Texts for the teacher.
        folder: Folder for the teacher's outputs.
        precision: Precision of the candidates' training.
        name: The teacher: the encoder itself, or another one with the same vocabulary and width.

    Raises:
        BortError: The teacher cannot be loaded, has another vocabulary or width, or reads texts other than as ids.
    """
    teacher = _teacher(name, inherited, texts.row_length)
    whole = inherited.config.vocab_size
    parts = {"train": texts.training, "held-out": texts.held_out}
    training, held_out = {}, {}
    full = {part: _rows(texts, part, parts[part], inherited.tokenizer, None) for part in parts}
    # The whole vocabulary first: its text vectors are the targets for all other vocabularies.
    states = {size: folder / f"train-{size}" for size in sorted(sizes, reverse=True)}
    if whole in states:
        _asked(teacher, np.arange(whole), (teacher.depth,), full["train"], states[whole])
    pooled = {
        "train": _asked(teacher, np.arange(whole), (), full["train"], states.get(whole, folder / "train")),
        "held-out": _asked(teacher, np.arange(whole), (), full["held-out"], folder / "held-out"),
    }
    for size, own in states.items():
        kept, tokenizer = inherited.kept(size), inherited.tokenizer_of(Shape(1, 1, 1, 1, size))
        rows = {
            part: full[part] if size == whole else _rows(texts, part, parts[part], tokenizer, full[part].paces)
            for part in parts
        }
        # The later answers override: text vectors come from the whole vocabulary.
        answers = (_asked(teacher, kept, (teacher.depth,), rows["train"], own), pooled["train"])
        training[size] = Batches(TaughtRows(rows["train"], answers), texts.rows_per_step, tokenizer.pad_token_id)
        measured = TaughtRows(rows["held-out"], (pooled["held-out"],))
        held_out[size] = Batches(measured, texts.rows_per_step, tokenizer.pad_token_id)
    return EmbeddingLesson(inherited, training, held_out, teacher.modules.poolings, precision)


def _teacher(name: str, inherited: InheritedEncoder, row_length: int) -> EmbeddingTeacher:
    teacher = EmbeddingTeacher(name, best_device())
    # Layers after the pooling are not part of the encoder that is searched.
    teacher.modules = replace(teacher.modules, steps=(), widths=())
    if teacher.tokenizer.get_vocab() != inherited.tokenizer.get_vocab():
        raise BortError(f"must have the vocabulary of {inherited.source}", setting="teacher", value=name)
    if teacher.hidden_size != inherited.config.hidden_size:
        rule = f"must have vectors as wide as those of {inherited.source}, {inherited.config.hidden_size}"
        raise BortError(rule, setting="teacher", value=name)
    if (how := teacher.reads_otherwise(row_length)) is not None:
        raise BortError(f"{how}; here a teacher must read the ids that the candidates read", file=name)
    return teacher


def _rows(
    texts: LessonTexts,
    part: str,
    own: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    paces: NDArray[np.int64] | None,
) -> TextRows:
    length = texts.steps * texts.rows_per_step if part == "train" else len(own)
    return TextRows.of(
        own,
        tokenizer,
        paces,
        row_length=texts.row_length,
        rows_per_step=texts.rows_per_step,
        length=length,
        seed=texts.seed,
    )


def _asked(
    teacher: EmbeddingTeacher, kept: NDArray[np.int64], layers: tuple[int, ...], rows: TextRows, folder: Path
) -> TeacherCache:
    asked = EmbeddingTargets(teacher, SharedVocabulary(torch.from_numpy(kept)), layers, _DTYPE)
    with bar(f"asking the teacher ({folder.name})", rows.rows_per_epoch) as shown:

        def progress(done: int, tokens: int) -> None:
            shown.update(done, f"{done:,} texts, {tokens / 1e6:.2f} M tokens")

        return cached_targets(asked, rows, folder, rows.digest(), progress)
