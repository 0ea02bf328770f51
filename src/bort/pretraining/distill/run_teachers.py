"""The teachers of a run: who they are, what they are asked about, and where their answers are kept."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus
from bort.data.corpus.rows import TrainingRows
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import ByteText
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.cache import Field, TeacherCache
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.distill.targets import EmbeddingLesson, Lesson, LogitsLesson, fingerprint, learn
from bort.pretraining.objective import teacher_layers
from bort.progress import bar

_DTYPES = {"fp16": "float16", "fp32": "float32"}
_WORDS_PER_CHUNK = 4096


class Teaching:
    """What a run's teachers are for.

    Args:
        arguments: Of the run.
        corpus: Text that they are asked about.
        tokenizer: The student's.
        folder: For their answers.
        device: Where they run.
    """

    def __init__(
        self,
        arguments: PretrainArguments,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.arguments, self.corpus, self.tokenizer = arguments, corpus, tokenizer
        self.folder, self.device = folder, device

    @property
    def embeds(self) -> bool:
        """Whether embeddings are learned from."""
        return self.arguments.embedding_teacher is not None

    @property
    def keeps_logits(self) -> bool:
        """Whether distributions are asked for once and kept."""
        return self.arguments.teacher is not None and self.arguments.teacher_cache is not None

    @cached_property
    def encoder(self) -> EmbeddingTeacher:
        """The teacher of embeddings."""
        assert self.arguments.embedding_teacher is not None
        return EmbeddingTeacher(self.arguments.embedding_teacher, self.device)

    @cached_property
    def _text(self) -> ByteText:
        return ByteText.of(self.tokenizer)

    def student(self, model: BortForMaskedLM) -> BortForMaskedLM:
        """The model, with projections if embeddings are learned from."""
        if not self.embeds:
            return model
        layers = self.layers(model.config.num_hidden_layers)
        return Student.around(model, self.encoder.size, self.arguments.pooling, tuple(layers))

    def layers(self, depth: int) -> dict[int, int]:
        """The teacher's layer for each that is compared token by token, of a student of so many layers."""
        return teacher_layers(self.arguments, depth, self.encoder.depth) if self.embeds else {}

    def masked_lm(self) -> MaskedLMTeacher:
        """The teacher of distributions."""
        assert self.arguments.teacher is not None
        return MaskedLMTeacher(self.arguments.teacher, self.tokenizer.get_vocab(), self.device)

    def limit(self, rows: TrainingRows) -> TrainingRows:
        """As many different rows as the run trains on; a teacher whose answers are kept must be asked about few."""
        arguments = self.arguments
        distinct = arguments.distinct_rows
        if distinct is None and (self.embeds or self.keeps_logits):
            distinct = min(len(rows), rows.available)
        return rows.limited(distinct, fixed_masks=self.keeps_logits)

    def ask(self, rows: TrainingRows, depth: int) -> tuple[TeacherCache, ...]:
        """All answers about rows, from the cache or now.

        Args:
            rows: The rows.
            depth: Layers of the student.
        """
        caches = []
        if self.keeps_logits:
            arguments = self.arguments
            lesson: Lesson = LogitsLesson(
                self.masked_lm(),
                top_k=arguments.teacher_top_k,
                tail=arguments.teacher_tail,
                temperature=arguments.temperature,
                dtype=_DTYPES[arguments.teacher_dtype],
                pad_id=self.tokenizer.pad_token_id,
            )
            caches.append(self._learn(lesson, rows, "logits"))
        if self.embeds:
            caches.append(self._learn(self._embedding_lesson(depth), rows, "embeddings"))
        return tuple(caches)

    def ask_held_out(self, rows: TrainingRows, depth: int) -> TeacherCache:
        """The teacher's embeddings of held-out rows."""
        return self._learn(self._embedding_lesson(depth), rows, "held-out")

    def _embedding_lesson(self, depth: int) -> EmbeddingLesson:
        layers = sorted(set(self.layers(depth).values()))
        return EmbeddingLesson(self.encoder, self._text, tuple(layers), _DTYPES[self.arguments.teacher_dtype])

    def _learn(self, lesson: Lesson, rows: TrainingRows, name: str) -> TeacherCache:
        with bar("asking the teacher", rows.rows_per_epoch) as shown:

            def progress(done: int, tokens: int) -> None:
                shown.update(done, f"{done:,} rows, {tokens / 1e6:.2f} M tokens")

            return learn(lesson, rows, self.folder / name, self._corpus_fingerprint(), progress)

    def _corpus_fingerprint(self) -> str:
        return self.corpus.tokens("train").digest()

    def words(self) -> NDArray[np.float32]:
        """The teacher's vector of each entry of the student's vocabulary by itself. *Shape:* (vocab, D)."""
        entries = [self._text.decode(np.array([number]))[0].strip() for number in range(len(self.tokenizer))]
        listed = hashlib.sha256("\0".join(entries).encode()).hexdigest()
        key: dict[str, Any] = {
            "lesson": "words",
            "words": listed,
            "teacher": fingerprint(self.encoder.model, self.encoder.source),
        }
        fields = {"pooled": Field("float32", (self.encoder.size,))}
        cache = TeacherCache(self.folder / "words", key, fields, len(entries))
        with bar("asking the teacher about words", len(entries)) as shown:
            while not cache.complete:
                chunk = entries[cache.done : cache.done + _WORDS_PER_CHUNK]
                pooled, _, _ = self.encoder.encode(chunk)
                cache.append([{"pooled": vector[None]} for vector in pooled])
                shown.update(cache.done, f"{cache.done:,} words")
        return np.concatenate([cache.read(number)["pooled"] for number in range(len(entries))])
