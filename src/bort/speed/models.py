"""Models to compare by name, with random weights of the right shape: what they are does not change the speed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bort.data.batches import token_budget_batches
from bort.errors import BortError
from bort.model.config import PRESETS
from bort.predict.exported_engine import TOKENS_PER_BATCH, Feed

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class ClassifierShape:
    """What decides how long a classifier takes.

    Args:
        layers: Of the encoder.
        heads: Of each attention.
        hidden: Width of the encoder.
        intermediate: Width of the feed-forward part.
        vocab_size: Rows of the word embedding.
        token_types: Kinds of tokens.
        kind: Architecture, as `transformers` names it.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab_size: int = 30_522
    token_types: int = 2
    kind: str = "bert"

    def operations(self, tokens: int, *, first_only: bool = False) -> int:
        """Additions and multiplications of the matrix products of one text.

        Args:
            tokens: Of the text.
            first_only: Whether the last layer computes only what the classifier reads, as exported graphs do: keys and
                values of all tokens, the rest of the first.
        """
        h, i, s = self.hidden, self.intermediate, tokens
        layer = 8 * s * h * h + 4 * s * s * h + 4 * s * h * i
        if not first_only:
            return self.layers * layer
        return (self.layers - 1) * layer + 4 * s * h * h + 4 * h * h + 4 * s * h + 4 * h * i


SHAPES: dict[str, ClassifierShape] = {
    "bert-large": ClassifierShape(24, 16, 1024, 4096),
    "bert-base": ClassifierShape(12, 12, 768, 3072),
    "distilbert": ClassifierShape(6, 12, 768, 3072, kind="distilbert"),
    "minilm-l6": ClassifierShape(6, 12, 384, 1536),
    "tinybert-4": ClassifierShape(4, 12, 312, 1200),
    **{
        name: ClassifierShape(p.depth, p.heads, p.hidden, p.intermediate, p.vocab_size, token_types=1)
        for name, p in PRESETS.items()
    },
}
"""The usual rivals, and the presets of this package."""


SHAPES["bort-nano"] = SHAPES["nano"]


def shape_of(folder: str | Path) -> ClassifierShape:
    """The shape of a saved model.

    Raises:
        BortError: Its `config.json` cannot be read, or is of another kind than BERT and DistilBERT.
    """
    from bort.model.checkpoints import load_config

    config: Any = load_config(str(folder))
    try:
        return ClassifierShape(
            config.num_hidden_layers,
            config.num_attention_heads,
            config.hidden_size,
            config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size,
            config.vocab_size,
            getattr(config, "type_vocab_size", 1),
            config.model_type,
        )
    except AttributeError as error:
        raise BortError(f"is no encoder like BERT: {error}", file=Path(folder) / "config.json") from None


def save_random(shape: ClassifierShape, folder: Path) -> None:
    """Write a classifier of two labels with random weights, and a tokenizer with as many entries as it has rows."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, DistilBertConfig
    from transformers import DistilBertForSequenceClassification as DistilBert

    from bort.model.tokenization import wrap
    from bort.predict.classifiers import save_classifier

    model: Any
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if shape.kind == "distilbert":
            sizes = {"n_layers": shape.layers, "n_heads": shape.heads, "dim": shape.hidden}
            config = DistilBertConfig(
                **sizes, hidden_dim=shape.intermediate, vocab_size=shape.vocab_size, pad_token_id=1
            )
            model = DistilBert(config)
        else:
            model = BertForSequenceClassification(
                BertConfig(
                    num_hidden_layers=shape.layers,
                    num_attention_heads=shape.heads,
                    hidden_size=shape.hidden,
                    intermediate_size=shape.intermediate,
                    vocab_size=shape.vocab_size,
                    type_vocab_size=shape.token_types,
                    pad_token_id=1,
                )
            )
    save_classifier(model, wrap(padded_tokenizer(shape.vocab_size)), folder, 512)


def padded_tokenizer(vocab_size: int) -> Tokenizer:
    """bort-nano's tokenizer with made-up entries behind its own, for to load one takes as long as it is large."""
    from tokenizers import Tokenizer

    from bort.model.checkpoints import unpacked

    described = json.loads((Path(unpacked("bort-nano")) / "tokenizer.json").read_text("utf-8"))
    vocabulary, merges = described["model"]["vocab"], described["model"]["merges"]
    words = [word for word in vocabulary if word.isalpha()]
    for first, second in product(words, words):
        if len(vocabulary) >= vocab_size:
            break
        if first + second not in vocabulary:
            vocabulary[first + second] = len(vocabulary)
            merges.append([first, second] if isinstance(merges[0], list) else f"{first} {second}")
    return Tokenizer.from_str(json.dumps(described))


_FIRST_WORD, _PAD = 5, 1


@dataclass(frozen=True)
class Load:
    """Batches that are answered one after the other.

    Args:
        name: For people.
        lengths: Tokens of each text.
        batches: Indices of the texts of each batch.
    """

    name: str
    lengths: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Of all texts, padding not counted."""
        return sum(self.lengths)

    def feeds(self, vocab_size: int) -> list[Feed]:
        """Random token ids of these lengths, padded to the right."""
        rng = np.random.default_rng(0)
        made = []
        for indices in self.batches:
            shape = (len(indices), max(self.lengths[index] for index in indices))
            mask = np.zeros(shape, np.int64)
            for row, index in enumerate(indices):
                mask[row, : self.lengths[index]] = 1
            ids = rng.integers(_FIRST_WORD, vocab_size, shape)
            made.append({"input_ids": np.where(mask, ids, _PAD), "attention_mask": mask})
        return made


def fixed(batch_size: int, sequence_length: int) -> Load:
    """One batch of texts of one length."""
    name = f"{batch_size} x {sequence_length} tokens" if batch_size > 1 else f"{sequence_length} tokens"
    return Load(name, (sequence_length,) * batch_size, (tuple(range(batch_size)),))


def natural(texts: int) -> Load:
    """Texts of natural lengths (log-normal: half below 25 tokens, 95 % below 70, none above 224), sorted by length."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(25), np.log(70 / 25) / 1.645, texts))), 4, 224)
    found = tuple(int(length) for length in lengths)
    batches = token_budget_batches(found, max_tokens=TOKENS_PER_BATCH, max_rows=TOKENS_PER_BATCH)
    return Load(f"{texts} texts of natural lengths", found, tuple(map(tuple, batches)))
