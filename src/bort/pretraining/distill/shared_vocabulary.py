"""Teachers that read the student's own ids: their vocabulary equals the student's, or contains it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bort.model.config import IGNORED
from bort.predict.sentence_encoder import EmbeddingTeacher

_ALIKE = ("normalizer", "pre_tokenizer")
_SPECIAL = ("cls_token", "sep_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class SharedVocabulary:
    """The teacher's id for each id of the student.

    Args:
        teacher_ids: *Shape:* (student's vocabulary,).
    """

    teacher_ids: Tensor

    @classmethod
    def of(cls, student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast) -> SharedVocabulary | None:
        """Match two vocabularies; None if the tokenizers differ, or if the teacher lacks an entry of the student's."""
        ours, theirs = (json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (student, teacher))
        alike = ours["model"]["type"] == theirs["model"]["type"] and all(ours[key] == theirs[key] for key in _ALIKE)
        if not alike or any(getattr(student, name) != getattr(teacher, name) for name in _SPECIAL):
            return None
        known = teacher.get_vocab()
        entries = student.convert_ids_to_tokens(list(range(len(student))))
        if any(entry not in known for entry in entries):
            return None
        return cls(torch.tensor([known[entry] for entry in entries]))

    def read(
        self, teacher: EmbeddingTeacher, input_ids: Tensor, mask: Tensor | None, layers: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run the teacher on a batch of the student's.

        Args:
            teacher: The teacher.
            input_ids: Ids of the student, with special tokens. *Shape:* (batch, seq).
            mask: *Shape:* (batch, seq), or None if there is no padding.
            layers: Teacher layers, counted from 1, whose vectors are also returned.

        Returns:
            Pooled vectors, *shape* (batch, D), and by layer the vectors of all positions, *shape* (batch, seq, D).
        """
        ids = self.teacher_ids.to(input_ids.device)[input_ids]
        return teacher.read(ids, torch.ones_like(ids) if mask is None else mask, layers)


@dataclass(frozen=True)
class TeacherBeside:
    """An encoder that reads each batch together with the student.

    Args:
        teacher: The encoder.
        vocabulary: The vocabulary that it shares with the student.
        layers: Teacher layers, counted from 1, whose token vectors are compared.
    """

    teacher: EmbeddingTeacher
    vocabulary: SharedVocabulary
    layers: tuple[int, ...]

    def answer(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs that a cache would hold for a batch, and the flat positions of its ordinary tokens.

        *Shapes:* `pooled` (batch, D), `ordinary` (tokens,), `layer_N` (tokens, D).
        """
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        if "labels" in batch:  # the teacher reads the original tokens
            ids = torch.where(batch["labels"] == IGNORED, ids, batch["labels"])
        pooled, hidden = self.vocabulary.read(self.teacher, ids, mask, self.layers)
        if not self.layers:
            return {"pooled": pooled}
        inner = torch.ones_like(ids) if mask is None else mask.clone()
        inner[:, :-1] *= inner[:, 1:].clone()  # the last token of a row is special
        inner[:, -1] = inner[:, 0] = 0
        ordinary = inner.reshape(-1).nonzero().squeeze(1)
        answers = {f"layer_{n}": states.flatten(0, 1).index_select(0, ordinary) for n, states in hidden.items()}
        return {"pooled": pooled, "ordinary": ordinary, **answers}
