"""`bort shrink`: a smaller encoder with inherited weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bort.bounds import NonNegativeInt, PositiveInt, validate
from bort.cli.results import FolderResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from bort.model.shrink_scores import Scores

POSITIONAL = ("model",)
_BATCH = 32
_LONGEST = 128


@dataclass
class ShrinkArguments:
    """Arguments of `bort shrink`.

    Example:
        >>> ShrinkArguments("bort-nano", "smaller", depth=2).layers
        []
    """

    model: str
    """encoder of the BERT, RoBERTa, XLM-RoBERTa or CamemBERT family: a folder, an embedded name or a hub name"""
    out: str
    """folder to write; new or empty"""
    layers: list[NonNegativeInt] = field(default_factory=list)
    """layers to keep, numbered from 0 (0 2 5); by default all"""
    depth: PositiveInt | None = None
    """number of layers to keep, evenly spread; instead of --layers"""
    heads: PositiveInt | None = None
    """attention heads per layer; the width of a head is hidden / heads"""
    intermediate: PositiveInt | None = None
    """neurons in the feed-forward part of a layer"""
    hidden: PositiveInt | None = None
    """hidden size: dimensions of a token's state"""
    corpus: list[str] = field(default_factory=list)
    """text files to whose tokens the vocabulary is reduced (also .gz, .xz, .bz2, .zst); by default it stays whole"""
    vocabulary: PositiveInt | None = None
    """number of vocabulary entries to keep, the most frequent in the corpus; by default all that occur in it"""
    importance: Literal["weights", "batch", "even"] = "weights"
    """which heads, neurons and dimensions to keep; weights: those with the largest weights; batch: those that affect
    the model's output on the corpus's first lines most; even: evenly spaced ones"""
    lines: PositiveInt = 256
    """number of corpus lines that --importance batch reads"""
    dtype: Literal["float32", "float16"] = "float32"
    """type of the stored weights"""

    def check(self) -> None:
        """Reject incompatible settings.

        Raises:
            BortError: Both --layers and --depth, a missing corpus, or --lines that nothing reads.
        """
        from bort.errors import BortError

        if self.layers and self.depth is not None:
            raise BortError("cannot be combined with --layers", setting="depth", value=self.depth)
        if self.vocabulary is not None and not self.corpus:
            raise BortError("needs a --corpus", setting="vocabulary", value=self.vocabulary)
        if self.importance == "batch" and not self.corpus:
            raise BortError("needs a --corpus", setting="importance", value=self.importance)
        if self.importance != "batch" and self.lines != type(self).lines:
            raise BortError("is for --importance batch: leave it out", setting="lines", value=self.lines)


def shrink(arguments: ShrinkArguments) -> FolderResult:
    """Remove layers, heads, neurons, dimensions and vocabulary entries from a trained encoder, and save the rest.

    The result is a plain Hugging Face BERT folder. It keeps part of what the encoder learned, as a starting point for
    further training. It also keeps pooling, case and default prompt of a sentence-transformers folder; one with a
    pooling other than the mean or the first token alone, or with Dense layers, is refused.

    Example:
        >>> import bort
        >>> figures = bort.shrink(bort.ShrinkArguments("bort-nano", "smaller", depth=2)).metrics
        >>> figures["parameters"] < figures["of_parameters"]
        True
    """
    import torch

    from bort.errors import BortError
    from bort.files import new_folder
    from bort.model.checkpoints import load_encoder, locate, save
    from bort.model.shrink import SubShape
    from bort.model.shrink import shrink as shrunk
    from bort.model.tokenization import load_tokenizer
    from bort.predict.classifiers import positions
    from bort.predict.sentence_folder import write_sentence_files
    from bort.predict.sentence_modules import read_modules
    from bort.progress import out

    validate(arguments)
    before_it = read_modules(locate(arguments.model))
    if (pooling := before_it.plain_pooling) is None:
        rule = "only encoders whose vectors are the mean over all tokens, or the first one's, can be shrunk"
        raise BortError(rule, file=arguments.model, value=before_it.described.get("modules"))
    new_folder(arguments.out)
    model = load_encoder(arguments.model).eval()
    full = load_tokenizer(arguments.model)
    tokenizer, kept, covered = full, None, None
    if arguments.corpus:
        tokenizer, kept, covered = _cut(full, arguments)
    layers = arguments.layers or arguments.depth
    shape = SubShape(layers, arguments.heads, arguments.intermediate, arguments.hidden)
    small = shrunk(model, shape, kept=kept, scores=_scores(model, full, arguments))
    before, after = (sum(weights.numel() for weights in one.parameters()) for one in (model, small))
    save(small.to(getattr(torch, arguments.dtype)), tokenizer, arguments.out)
    config = small.config
    write_sentence_files(
        arguments.out,
        config.hidden_size,
        min(before_it.max_length or tokenizer.model_max_length, positions(small)),
        pooling,
        normalizes=before_it.normalizes,
        lowercase=before_it.lowercase,
        prompt=before_it.prompt,
    )
    out().print(
        f"{arguments.out}: {config.num_hidden_layers} layers, {config.num_attention_heads} heads, hidden "
        f"{config.hidden_size}, intermediate {config.intermediate_size}, vocabulary {config.vocab_size:,}"
        + ("" if covered is None else f" ({100 * covered:.2f} % of the corpus's tokens)")
        + f"; {after:,} of {before:,} parameters",
        soft_wrap=True,
    )
    figures = {"parameters": after, "of_parameters": before, "covered": covered}
    return FolderResult(figures, Path(arguments.out))


def _cut(full: PreTrainedTokenizerFast, arguments: ShrinkArguments) -> tuple[PreTrainedTokenizerFast, Any, float]:
    from bort.data.tables.lines import read_all_lines, total_bytes
    from bort.data.tables.readers import check_plain
    from bort.errors import BortError
    from bort.model.vocabulary_cut import count_tokens, cut_vocabulary
    from bort.progress import bar

    paths = [str(Path(path).expanduser()) for path in arguments.corpus]
    for path in paths:
        check_plain(path)
    with bar("counting tokens", total_bytes(paths)) as shown:
        counts = count_tokens(full, read_all_lines(paths, on_bytes=shown.update))
    if not counts:
        raise BortError("must hold text", setting="corpus", value=arguments.corpus)
    cut = cut_vocabulary(full, counts, arguments.vocabulary)
    return cut.tokenizer, cut.kept, cut.covered


def _scores(model: PreTrainedModel, full: PreTrainedTokenizerFast, arguments: ShrinkArguments) -> Scores | None:
    from itertools import chain, islice

    from bort.data.tables.lines import read_lines
    from bort.model.shrink_scores import even_scores, first_order_scores

    if arguments.importance == "even":
        return even_scores(model.config)
    if arguments.importance == "weights":
        return None
    lines = chain.from_iterable(map(read_lines, arguments.corpus))
    texts = list(islice((line for line in lines if line.strip()), arguments.lines))
    parts = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
    longest = min(_LONGEST, full.model_max_length)
    read = (full(part, truncation=True, max_length=longest, padding=True, return_tensors="pt") for part in parts)
    return first_order_scores(model, map(dict, read))
