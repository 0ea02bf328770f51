"""The trained encoder whose parts are the candidates: it is the maximum point T, and they start from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedModel, PreTrainedTokenizerFast

from bort.model.checkpoints import load_encoder, locate
from bort.model.inheritance import read_source
from bort.model.modelling import BortForMaskedLM
from bort.model.sentence_files import copy_modules
from bort.model.shrink import SubShape, shrink
from bort.model.tokenization import load_tokenizer
from bort.model.vocabulary_cut import CutVocabulary, cut_vocabulary
from bort.ose.space import SearchSpace, Shape


@dataclass(frozen=True)
class InheritedEncoder:
    """A trained encoder and its vocabularies.

    Args:
        source: Its folder or hub name.
        model: The encoder, with its masked-LM head if it has one.
        tokenizer: The tokenizer with the whole vocabulary.
        config: Its configuration as a BERT model.
        cuts: Cut vocabularies by size; the whole vocabulary is not among them.
    """

    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    config: BertConfig
    cuts: Mapping[int, CutVocabulary] = field(default_factory=dict)

    @classmethod
    def load(cls, source: str) -> InheritedEncoder:
        """Load an encoder of the BERT family.

        Raises:
            BortError: It cannot be loaded, or belongs to another family.
        """
        model = load_encoder(source).eval()
        model.requires_grad_(False)
        return cls(source, model, load_tokenizer(source), read_source(model).config)

    @property
    def has_mlm_head(self) -> bool:
        """Whether it has a masked-LM head."""
        return self.model.get_output_embeddings() is not None

    @property
    def entries(self) -> int:
        """Entries of the whole vocabulary; the word embedding may have more rows."""
        return len(self.tokenizer)

    @property
    def least_vocabulary(self) -> int:
        """Minimum size of a cut vocabulary: special tokens and characters always stay."""
        return len(cut_vocabulary(self.tokenizer, {}).kept)

    @property
    def numbers(self) -> tuple[int, ...]:
        """D, A, H, I, V."""
        c = self.config
        sizes = (c.num_hidden_layers, c.num_attention_heads, c.hidden_size, c.intermediate_size, c.vocab_size)
        return tuple(map(int, sizes))

    def top(self, space: SearchSpace) -> Shape:
        """The maximum point of a space of its parts: the encoder itself."""
        return Shape(*self.numbers[: len(space.axes)])

    def with_vocabularies(self, sizes: tuple[int, ...], counts: Mapping[int, int]) -> InheritedEncoder:
        """The same encoder with cut vocabularies.

        Args:
            sizes: Number of entries of each.
            counts: How often each token occurs in the corpus, by id.

        Raises:
            BortError: A size is below `least_vocabulary`.
        """
        smaller = [size for size in sizes if size < self.config.vocab_size]
        return replace(self, cuts={size: cut_vocabulary(self.tokenizer, counts, size) for size in smaller})

    def tokenizer_of(self, shape: Shape) -> PreTrainedTokenizerFast:
        """The tokenizer of a member."""
        cut = self.cuts.get(shape.vocabulary or 0)
        return self.tokenizer if cut is None else cut.tokenizer

    def kept(self, vocabulary: int | None) -> NDArray[np.int64]:
        """The encoder's id for each id of a vocabulary. *Shape:* (entries,)."""
        cut = self.cuts.get(vocabulary or 0)
        return np.arange(self.config.vocab_size) if cut is None else cut.kept

    def copy_modules(self, folder: Path) -> None:
        """Copy the encoder's sentence-transformers modules to the folder of a saved member, if there are any.

        Raises:
            BortError: Their list is broken, or names a folder outside of the encoder's.
        """
        copy_modules(locate(self.source), folder)

    def part(self, shape: Shape) -> BertModel | BertForMaskedLM:
        """A member with its weights from the encoder, trainable."""
        sub = SubShape(shape.depth, shape.heads, shape.intermediate, shape.hidden)
        return shrink(self.model, sub, kept=self.kept(shape.vocabulary)).requires_grad_()

    def masked_lm(self, shape: Shape) -> BortForMaskedLM:
        """A member with its masked-LM head, which decodes only the masked positions."""
        part = self.part(shape)
        with torch.random.fork_rng():
            model = BortForMaskedLM(part.config)
        model.bert.load_state_dict(part.base_model.state_dict(), strict=False)  # a masked LM has no pooler
        model.cls.load_state_dict(part.get_submodule("cls").state_dict())
        return model

    def encoder(self, shape: Shape) -> BertModel:
        """A member without its masked-LM head."""
        part = self.part(shape)
        return part if isinstance(part, BertModel) else part.bert
