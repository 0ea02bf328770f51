"""Which rows of a corpus a run trains on, and which it is judged by."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus, Part
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows, TrainingRows
from bort.data.corpus.sentence_rows import Punctuation, SentenceRows
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.objective import decodes

_HELD_OUT_SEED = 20_101_0


_MASKED_ROWS = 256


_COMPARED_ROWS = 512


class RowSource:
    """Cuts rows as a run's settings say.

    Args:
        arguments: Of the run.
        corpus: Where from.
        tokenizer: Whose ids those are.
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
        """The rows to train on, over all epochs."""
        masker = self.masker if decodes(self.arguments) else None
        return self._cut("train", masker, length, rows_per_step, self.arguments.seed)

    def masked(self) -> PackedRows:
        """Held-out rows that the masked LM is scored on; packed ones whatever it trains on, so that runs compare."""
        width = self.arguments.sequence_length - 2
        length = min(_MASKED_ROWS, self.corpus.info.valid_tokens // width)
        return PackedRows(
            tokens=self.corpus.tokens("valid"),
            masker=self.masker,
            sequence_length=self.arguments.sequence_length,
            bos_id=self.tokenizer.bos_token_id,
            eos_id=self.tokenizer.eos_token_id,
            length=length,
            seed=_HELD_OUT_SEED,
        )

    def compared(self) -> TrainingRows:
        """Held-out rows on which the student's embeddings are compared with a teacher's."""
        rows = self._cut("valid", None, _COMPARED_ROWS, 1, _HELD_OUT_SEED)
        return rows.limited(min(_COMPARED_ROWS, rows.available))

    def _cut(self, part: Part, masker: Masker | None, length: int, rows_per_step: int, seed: int) -> TrainingRows:
        arguments, tokenizer = self.arguments, self.tokenizer
        tokens, longest = self.corpus.tokens(part), arguments.sequence_length
        bos_id, eos_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        if arguments.rows == "packed":
            return PackedRows(tokens, masker, longest, bos_id, eos_id, length, seed)
        return SentenceRows(
            tokens,
            masker,
            longest,
            bos_id,
            eos_id,
            length,
            seed,
            punctuation=Punctuation.of(tokenizer),
            rows_per_step=rows_per_step,
        )
