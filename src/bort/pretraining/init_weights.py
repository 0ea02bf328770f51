"""The initial model of a run: random weights with informed initial values, a part of a larger encoder, or a model to
continue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus, Tokens, unigram_frequencies
from bort.errors import BortError
from bort.model.checkpoints import load, load_config, load_encoder
from bort.model.config import architecture, configure, shape_of
from bort.model.modelling import BortForMaskedLM, set_dropout
from bort.model.shrink import SubShape, shrink
from bort.model.tokenization import load_tokenizer
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.distill.run_teachers import Teachers
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary


def student_config(arguments: PretrainArguments, vocab_size: int | None, pad_token_id: int = 1) -> BertConfig:
    """The configuration that a run trains: that of `init`, or `architecture`.

    Raises:
        BortError: There is no such architecture, or it has too few positions for the run's rows, or lacks a layer that
            is compared with a teacher's.
    """
    if arguments.init is None:
        config = architecture(arguments.architecture, vocab_size=vocab_size, pad_token_id=pad_token_id)
    else:
        preset = shape_of(load_config(arguments.init).to_dict(), Path(arguments.init))
        config = configure(preset, vocab_size or preset.vocab_size, pad_token_id)
    if arguments.sequence_length > config.max_position_embeddings:
        rule = f"must be at most the architecture's {config.max_position_embeddings} positions"
        raise BortError(rule, setting="sequence_length", value=arguments.sequence_length)
    if max(arguments.token_layers, default=1) > (depth := config.num_hidden_layers):
        raise BortError(f"must be from 1 to {depth}", setting="token_layers", value=arguments.token_layers)
    return config


def inherited_vocabulary(source: str, tokenizer: PreTrainedTokenizerFast) -> SharedVocabulary:
    """Find a student's vocabulary in that of the encoder whose weights it inherits.

    Args:
        source: Folder or hub name of the encoder.
        tokenizer: The student's tokenizer.

    Raises:
        BortError: The encoder's vocabulary lacks an entry, or the tokenizers differ in kind.
    """
    vocabulary = SharedVocabulary.of(tokenizer, load_tokenizer(source))
    if vocabulary is None:
        rule = "its vocabulary must hold all of --tokenizer's, whose kind must be the same; `bort shrink` cuts one"
        raise BortError(rule, setting="init_from", value=source)
    return vocabulary


def initial_model(
    arguments: PretrainArguments, config: BertConfig, corpus: Corpus, teachers: Teachers
) -> BortForMaskedLM:
    """Create the model to train, with projections for the embedding teacher; parameters that no loss uses are frozen.

    Args:
        arguments: Settings of the run.
        config: Configuration of the model.
        corpus: The corpus, in which tokens are counted.
        teachers: Teachers of the run.
    """
    torch.manual_seed(arguments.seed)
    model: BortForMaskedLM
    if arguments.init is not None:
        model = load(BortForMaskedLM, arguments.init)
    elif arguments.init_from is not None:
        model = _inherited(arguments, config, corpus, teachers.tokenizer)
    else:
        model = BortForMaskedLM(config)
        start_from_word_counts(model, corpus.tokens("train"))
        if arguments.position_init != "normal":
            start_from_sinusoids(model)
    model = teachers.projected(model)
    if arguments.words_from_teacher and isinstance(model, Student):
        start_from_teacher_words(model, teachers.words(), teachers.tokenizer.all_special_ids)
    if arguments.position_init == "fixed":
        model.bert.embeddings.position_embeddings.requires_grad_(False)
    if not arguments.masks:
        # No loss uses these, and DDP would wait for their gradients. The decoder's weights are the word embeddings.
        model.cls.predictions.transform.requires_grad_(False)
        model.cls.predictions.bias.requires_grad_(False)
    set_dropout(model, arguments.dropout)
    return model


def _inherited(
    arguments: PretrainArguments, config: BertConfig, corpus: Corpus, tokenizer: PreTrainedTokenizerFast
) -> BortForMaskedLM:
    """A model with its weights from a larger encoder; a masked-LM head is new if the encoder has none."""
    assert arguments.init_from is not None
    vocabulary = inherited_vocabulary(arguments.init_from, tokenizer)
    whole = load_encoder(arguments.init_from)
    shape = SubShape(config.num_hidden_layers, config.num_attention_heads, config.intermediate_size, config.hidden_size)
    part = shrink(whole, shape, kept=vocabulary.teacher_ids.numpy())
    if arguments.sequence_length > part.config.max_position_embeddings:
        rule = f"must be at most the {part.config.max_position_embeddings} positions of {arguments.init_from}"
        raise BortError(rule, setting="sequence_length", value=arguments.sequence_length)
    model = BortForMaskedLM(part.config)
    model.bert.load_state_dict(part.base_model.state_dict(), strict=False)  # a masked LM has no pooler
    if whole.get_output_embeddings() is not None:
        model.cls.load_state_dict(part.get_submodule("cls").state_dict())
    else:
        start_from_word_counts(model, corpus.tokens("train"))
    return model


@torch.no_grad()
def start_from_word_counts(model: BortForMaskedLM, tokens: Tokens) -> None:
    """Initialise the head's bias with each token's log frequency, so that no step is spent on learning frequencies.

    Args:
        model: Changed in place.
        tokens: Ids of the training corpus. *Shape:* (tokens,).
    """
    frequencies = unigram_frequencies(tokens, model.config.vocab_size)
    model.cls.predictions.bias.copy_(torch.from_numpy(frequencies).log())


@torch.no_grad()
def start_from_sinusoids(model: BortForMaskedLM) -> None:
    """Initialise position embeddings as sinusoids (Vaswani et al. 2017), scaled to the initialiser's deviation.

    Neighbouring positions start alike, so attention to a neighbour need not be learned position by position. Unless
    frozen, the embeddings are trained like any other weight.
    """
    table = model.bert.embeddings.position_embeddings.weight  # (positions, H)
    positions, hidden = table.shape
    place = torch.arange(positions)[:, None]
    wave = torch.exp(-np.log(10_000.0) * torch.arange(0, hidden, 2) / hidden)
    table[:, 0::2] = torch.sin(place * wave)
    table[:, 1::2] = torch.cos(place * wave[: hidden // 2])
    table.mul_(model.config.initializer_range * 2**0.5)  # a sinusoid's mean square is one half


@torch.no_grad()
def start_from_teacher_words(model: Student, vectors: NDArray[np.float32], special_ids: list[int]) -> None:
    """Initialise word embeddings with a teacher's vectors of the words, reduced by principal components.

    The projections start as the inverse transformation, so that the student's pooled vector starts close to the mean of
    its words' vectors. Without projections, the vectors are only centred and scaled.

    Args:
        model: Changed in place. If it is wider than the teacher, its last dimensions start at 0.
        vectors: The teacher's vector of each entry of the vocabulary. *Shape:* (vocab, D).
        special_ids: Entries that are not words; they keep their random vectors.
    """
    words = torch.from_numpy(np.delete(vectors, special_ids, axis=0))
    kept = min(model.config.hidden_size, vectors.shape[1])
    mean = words.mean(0)
    linear = [layer for layer in model.projections.values() if isinstance(layer, torch.nn.Linear)]
    components = torch.eye(vectors.shape[1])  # (D, D)
    if linear:
        _, _, components = torch.linalg.svd(words - mean, full_matrices=False)  # largest variance first
    reduced = (torch.from_numpy(vectors) - mean) @ components[:kept].T  # (vocab, kept)
    scale = model.config.initializer_range / reduced.std()
    table = model.bert.embeddings.word_embeddings.weight
    before = table[special_ids].clone()
    table.zero_()
    table[:, :kept] = reduced * scale
    table[special_ids] = before
    for projection in linear:
        projection.weight.zero_()  # (D, H)
        projection.weight[:, :kept] = components[:kept].T
