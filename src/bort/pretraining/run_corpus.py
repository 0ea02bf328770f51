"""The corpus of a run: an existing folder, or text that is tokenised once and kept."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bort.data.corpus.build import build_corpus, check_made_from, remove_leftovers
from bort.data.corpus.corpus import Corpus, open_corpus
from bort.data.corpus.sources import is_hub
from bort.data.tables.lines import total_bytes
from bort.errors import BortError
from bort.progress import bar
from bort.runs import CORPUS_FOLDER, Run
from bort.training import distributed


def tokenised(
    sources: list[str],
    tokenizer: PreTrainedTokenizerFast,
    folder: str | None,
    *,
    valid_share: float,
    run: Run,
    encoders: int | None = None,
) -> Corpus:
    """Open a tokenised corpus, or create it, and refuse to resume a run with another one.

    Args:
        sources: Texts, or one folder of a tokenised corpus.
        tokenizer: The tokenizer.
        folder: Folder of the corpus; by default in the run's folder.
        valid_share: Share of the documents to hold out.
        run: The run whose journal records it, with a digest of its training tokens.
        encoders: Number of tokenising processes; None for one per core.

    Raises:
        BortError: A source cannot be read, or the folder holds the corpus of another text (such as the same file before
            it was edited) or of another share, or the run to resume began with other tokens.
    """
    corpus = _tokenised(sources, tokenizer, folder, valid_share, run, encoders)
    if run.leads:
        run.same_data({"corpus": corpus.tokens("train").digest()})
    return corpus


def _tokenised(
    sources: list[str],
    tokenizer: PreTrainedTokenizerFast,
    folder: str | None,
    valid_share: float,
    run: Run,
    encoders: int | None,
) -> Corpus:
    if len(sources) == 1 and (Path(sources[0]) / "corpus.json").is_file():
        return open_corpus(sources[0], tokenizer)
    path = Path(folder or run.path / CORPUS_FOLDER)
    if (path / "corpus.json").is_file():
        corpus = open_corpus(path, tokenizer)
        if distributed.is_first():  # the other processes need not have the text
            check_made_from(corpus, sources, valid_share)
            remove_leftovers(path)
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
