"""Which rows of a corpus a run trains on, and which it is judged by."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bort.data.corpus.build import build_corpus
from bort.data.corpus.corpus import Corpus, Part, open_corpus
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows, TrainingRows
from bort.data.corpus.sentence_rows import Punctuation, SentenceRows
from bort.data.corpus.text_blocks import is_hub
from bort.data.tables.lines import total_bytes
from bort.errors import BortError
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.objective import decodes
from bort.progress import bar
from bort.runs import Run
from bort.training import distributed

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


def tokenised(
    sources: list[str],
    tokenizer: PreTrainedTokenizerFast,
    folder: str | None,
    *,
    valid_share: float,
    run: Run,
    encoders: int | None = None,
) -> Corpus:
    """Open a tokenised corpus, or make it once.

    Args:
        sources: Texts, or one folder of a tokenised corpus.
        tokenizer: Whose ids.
        folder: Where it is kept; in the run's folder by default.
        valid_share: Part of the documents to hold out.
        run: Whose journal notes it.
        encoders: Processes that encode; None is one a core.

    Raises:
        BortError: A source that cannot be read, or a folder that holds another corpus.
    """
    if len(sources) == 1 and (Path(sources[0]) / "corpus.json").is_file():
        return open_corpus(sources[0], tokenizer)
    path = Path(folder or run.path / "corpus")
    if (path / "corpus.json").is_file():
        corpus = open_corpus(path, tokenizer)
        names = [source["name"] for source in corpus.info.sources]
        if names != [Path(source).name for source in sources]:
            raise BortError(f"holds the corpus of {', '.join(names)}; name another --corpus-cache", file=path)
        return corpus
    if not distributed.is_first():
        raise BortError("is not what the first process wrote; all machines must share this folder", file=path)
    local = [source for source in sources if not is_hub(source)]
    with bar("tokenising", total_bytes(local) or None) as shown:

        def progress(done: int, tokens: int) -> None:
            shown.update(done, f"{tokens / 1e6:.1f} M tokens")

        corpus = build_corpus(sources, tokenizer, path, valid_share=valid_share, processes=encoders, progress=progress)
    run.log("corpus", train_tokens=corpus.info.train_tokens, valid_tokens=corpus.info.valid_tokens)
    return corpus
