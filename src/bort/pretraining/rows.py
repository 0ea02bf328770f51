"""The rows of a corpus that a run trains on, and those that it is validated on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus, Part, Tokens
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows, TrainingRows
from bort.data.corpus.sentence_rows import Punctuation, SentenceRows
from bort.errors import BortError
from bort.pretraining.arguments import PretrainArguments

_HELD_OUT_SEED = 201_010
"""Seed of the order and the masks of held-out rows, whatever the run's seed."""
_MASKED_ROWS = 256
_COMPARED_ROWS = 512


class RowSource:
    """Cuts a corpus into rows as the settings of a run say.

    Args:
        arguments: Settings of the run.
        corpus: The corpus.
        tokenizer: The tokenizer of the corpus.
    """

    def __init__(self, arguments: PretrainArguments, corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> None:
        self.arguments, self.corpus, self.tokenizer = arguments, corpus, tokenizer
        self.masker = Masker(
            mask_id=tokenizer.mask_token_id,
            special_ids=tuple(sorted(tokenizer.all_special_ids)),
            vocab_size=len(tokenizer),
            probability=arguments.mask_probability,
        )

    def training(self, length: int, rows_per_step: int) -> TrainingRows:
        """The rows to train on, over all epochs.

        With an embedding teacher or cached logits, there are by default at most `length` distinct rows, so that the
        teacher need not read more.

        Args:
            length: Number of rows of the run.
            rows_per_step: Rows per step, over all devices.
        """
        arguments = self.arguments
        rows = self._cut("train", self.masker if arguments.masks else None, length, rows_per_step, arguments.seed)
        distinct = arguments.distinct_rows
        if distinct is None and (arguments.embedding_teacher is not None or arguments.keeps_logits):
            distinct = min(length, rows.available)
        return rows.limited(distinct, fixed_masks=arguments.keeps_logits)

    def masked(self) -> PackedRows:
        """Held-out rows that the masked LM is scored on; always packed, so that runs are comparable."""
        width = self.arguments.sequence_length - 2
        length = min(_MASKED_ROWS, self.corpus.info.valid_tokens // width)
        return self._packed("valid", self.masker, length, _HELD_OUT_SEED)

    def compared(self) -> TrainingRows:
        """Held-out rows on which the student's embeddings are compared with a teacher's."""
        rows = self._cut("valid", None, _COMPARED_ROWS, 1, _HELD_OUT_SEED)
        length = min(_COMPARED_ROWS, rows.available)
        return replace(rows, length=length, distinct=length)

    def _cut(self, part: Part, masker: Masker | None, length: int, rows_per_step: int, seed: int) -> TrainingRows:
        if self.arguments.rows == "packed":
            return self._packed(part, masker, length, seed)
        punctuation = Punctuation.of(self.tokenizer)
        settings = self._settings(part, masker, length, seed)
        with _told_of(part):
            return SentenceRows(*settings, punctuation=punctuation, rows_per_step=rows_per_step)

    def _packed(self, part: Part, masker: Masker | None, length: int, seed: int) -> PackedRows:
        with _told_of(part):
            return PackedRows(*self._settings(part, masker, length, seed))

    def _settings(
        self, part: Part, masker: Masker | None, length: int, seed: int
    ) -> tuple[Tokens, Masker | None, int, int, int, int, int]:
        """Arguments of both kinds of rows."""
        bos_id, eos_id = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return self.corpus.tokens(part), masker, self.arguments.sequence_length, bos_id, eos_id, length, seed


@contextlib.contextmanager
def _told_of(part: Part) -> Iterator[None]:
    """Make an error about too little text name the held-out part, and say what helps."""
    try:
        yield
    except BortError as error:
        if part == "train":
            raise
        told = str(error).replace("the corpus", "the held-out part of the corpus")
        raise BortError(f"{told}; raise --valid-share, or shorten --sequence-length") from None
