"""The teachers of a run: which they are, what they compute, and where their outputs are cached."""

from __future__ import annotations

import contextlib
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
from bort.errors import BortError
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import ByteText
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.cache import Field, TeacherCache
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary, TeacherBeside
from bort.pretraining.distill.targets import (
    EmbeddingTargets,
    LogitTargets,
    TeacherTargets,
    cached_targets,
    fingerprint,
)
from bort.pretraining.objective import Objective
from bort.pretraining.taught_rows import TaughtRows
from bort.progress import bar

_DTYPES = {"fp16": "float16", "fp32": "float32"}
_HELD_OUT = "held-out"
_WORDS_PER_CHUNK = 4096


class Teachers:
    """The teachers of a run, each loaded on first use.

    Args:
        arguments: Settings of the run.
        tokenizer: The student's tokenizer.
        student_depth: Number of layers of the student.
        folder: Folder for their outputs.
        device: Where they run.
    """

    def __init__(
        self,
        arguments: PretrainArguments,
        tokenizer: PreTrainedTokenizerFast,
        student_depth: int,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.arguments, self.tokenizer = arguments, tokenizer
        self.student_depth, self.folder, self.device = student_depth, folder, device

    @property
    def embeds(self) -> bool:
        """Whether the student learns from embeddings."""
        return self.arguments.embedding_teacher is not None

    @cached_property
    def encoder(self) -> EmbeddingTeacher:
        """The teacher of embeddings."""
        assert self.arguments.embedding_teacher is not None
        return EmbeddingTeacher(self.arguments.embedding_teacher, self.device)

    @cached_property
    def masked_lm(self) -> MaskedLMTeacher:
        """The teacher of distributions."""
        assert self.arguments.teacher is not None
        vocabulary, longest = self.tokenizer.get_vocab(), self.arguments.sequence_length
        return MaskedLMTeacher(self.arguments.teacher, vocabulary, self.device, longest=longest)

    def check(self) -> None:
        """Refuse a teacher of distributions that cannot teach the student.

        The one of embeddings is loaded later, since loading it may draw random numbers.
        """
        if self.arguments.teacher is not None:
            _ = self.masked_lm

    @cached_property
    def layers(self) -> dict[int, int]:
        """The embedding teacher's layer, at the same relative depth, for each student layer compared token by token.

        Raises:
            BortError: The teacher's pooled vectors have another width.
        """
        if not (self.embeds and self.arguments.token_weight):
            return {}
        depth = self.student_depth
        layers = sorted(set(self.arguments.token_layers)) or [depth]
        if self.encoder.size != self.encoder.hidden_size:
            rule = "needs a teacher whose pooled vectors are as wide as those of its tokens"
            raise BortError(rule, setting="token_weight", value=self.arguments.token_weight)
        return {layer: max(1, round(layer * self.encoder.depth / depth)) for layer in layers}

    @cached_property
    def _shared(self) -> SharedVocabulary | None:
        if self.encoder.reads_otherwise(self.arguments.sequence_length):
            return None
        return SharedVocabulary.of(self.tokenizer, self.encoder.tokenizer)

    @cached_property
    def _reader(self) -> ByteText | SharedVocabulary:
        if self._shared is not None:
            return self._shared
        try:
            return ByteText.of(self.tokenizer)
        except BortError:
            if (how := self.encoder.reads_otherwise(self.arguments.sequence_length)) is None:
                raise
            rule = f"{how}, so it must be given texts, which only a byte-level BPE as --tokenizer gives back"
            raise BortError(rule, setting="embedding_teacher", value=self.encoder.source) from None

    @property
    def _beside(self) -> TeacherBeside | None:
        """The embedding teacher, if it can read the student's ids and its outputs need not be cached."""
        if not self.embeds or self.arguments.teacher_cache is not None or self._shared is None:
            return None
        return TeacherBeside(self.encoder, self._shared, tuple(sorted(set(self.layers.values()))))

    def projected(self, model: BortForMaskedLM) -> BortForMaskedLM:
        """The student, with projections into the embedding teacher's space if there is one.

        A student with the teacher's vocabulary and width learns that space directly, without projections.
        """
        if not self.embeds:
            return model
        same_space = self._shared is not None and self.encoder.size == model.config.hidden_size
        size = None if same_space else self.encoder.size
        return Student.around(model, size, self.arguments.pooling, tuple(self.layers))

    def taught(self, rows: TrainingRows, corpus: Corpus) -> TaughtRows:
        """Rows to train on, with the teacher outputs that are computed once: from the cache or computed now."""
        caches = []
        if self.arguments.keeps_logits:
            arguments = self.arguments
            targets: TeacherTargets = LogitTargets(
                self.masked_lm,
                top_k=arguments.teacher_top_k,
                tail=arguments.teacher_tail,
                temperature=arguments.temperature,
                dtype=_DTYPES[arguments.teacher_dtype],
                pad_id=self.tokenizer.pad_token_id,
            )
            caches.append(self._cached(targets, rows, corpus, "logits"))
            del self.masked_lm  # it is not needed any more and may be large
        if self.embeds and self._beside is None:
            caches.append(self._cached(self._embeddings(), rows, corpus, "embeddings"))
        return TaughtRows(rows, tuple(caches))

    def taught_held_out(self, rows: TrainingRows, corpus: Corpus) -> TaughtRows:
        """Held-out rows with the teacher's embeddings."""
        return TaughtRows(rows, (self._cached(self._embeddings(), rows, corpus, _HELD_OUT),))

    def objective(self) -> Objective:
        """The objective of the run; a teacher whose outputs are not cached runs at each step."""
        live = self.arguments.teacher is not None and not self.arguments.keeps_logits
        return Objective(self.arguments, self.masked_lm if live else None, self.layers, self._beside)

    def _embeddings(self) -> EmbeddingTargets:
        layers = sorted(set(self.layers.values()))
        return EmbeddingTargets(self.encoder, self._reader, tuple(layers), _DTYPES[self.arguments.teacher_dtype])

    def _cached(self, targets: TeacherTargets, rows: TrainingRows, corpus: Corpus, name: str) -> TeacherCache:
        with bar("asking the teacher", rows.rows_per_epoch) as shown:

            def progress(done: int, tokens: int) -> None:
                shown.update(done, f"{done:,} rows, {tokens / 1e6:.2f} M tokens")

            training = corpus.tokens("train").digest()
            held_out = corpus.tokens("valid").digest() if name == _HELD_OUT else None
            return cached_targets(targets, rows, self.folder / name, training, progress, held_out=held_out)

    def words(self) -> NDArray[np.float32]:
        """The teacher's vector of each single entry of the student's vocabulary. *Shape:* (vocab, D)."""
        text = ByteText.of(self.tokenizer)
        entries = [text.decode(np.array([number]))[0].strip() for number in range(len(self.tokenizer))]
        listed = hashlib.sha256("\0".join(entries).encode()).hexdigest()
        key: dict[str, Any] = {
            "lesson": "words",
            "words": listed,
            "teacher": fingerprint(self.encoder.model, self.encoder.source),
            "modules": dict(self.encoder.modules.described),
        }
        fields = {"pooled": Field("float32", (self.encoder.size,))}
        cache = TeacherCache(self.folder / "words", key, fields, len(entries))
        with contextlib.closing(cache), bar("asking the teacher about words", len(entries)) as shown:
            while not cache.complete:
                chunk = entries[cache.done : cache.done + _WORDS_PER_CHUNK]
                pooled, _, _ = self.encoder.encode(chunk)
                cache.append([{"pooled": vector[None]} for vector in pooled])
                shown.update(cache.done, f"{cache.done:,} words")
        return np.concatenate([cache.read(number)["pooled"] for number in range(len(entries))])
