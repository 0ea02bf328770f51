"""Better places to start from than noise; both leave a plain BERT."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bort.data.corpus.rows import Tokens
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.validation import unigram_frequencies


@torch.no_grad()
def start_from_word_counts(model: BortForMaskedLM, tokens: Tokens) -> None:
    """Let the head's bias be each token's log frequency, so that no step is spent on learning to count.

    Args:
        model: Changed in place.
        tokens: The training corpus. *Shape:* (tokens,).
    """
    frequencies = unigram_frequencies(tokens, model.config.vocab_size)
    model.cls.predictions.bias.copy_(torch.from_numpy(frequencies).log())


@torch.no_grad()
def start_from_sinusoids(model: BortForMaskedLM) -> None:
    """Let position embeddings begin as sinusoids (Vaswani et al. 2017) of the initialiser's spread.

    Neighbouring positions begin alike, so attention to a neighbour need not be learned position by position. They are
    trained on like any other weight.
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
    """Let word embeddings begin as a teacher's vectors of the words, reduced by principal components.

    The projections begin as the way back, so that the student's pooled vector begins as the mean of its words'.

    Args:
        model: Changed in place. Where it is wider than the teacher, its last dimensions begin at 0.
        vectors: What the teacher says of each entry of the vocabulary. *Shape:* (vocab, D).
        special_ids: Entries that are no words; they keep their random vectors.
    """
    words = torch.from_numpy(np.delete(vectors, special_ids, axis=0))
    kept = min(model.config.hidden_size, vectors.shape[1])
    mean = words.mean(0)
    _, _, components = torch.linalg.svd(words - mean, full_matrices=False)  # (D, D), the first are the longest
    reduced = (torch.from_numpy(vectors) - mean) @ components[:kept].T  # (vocab, kept)
    scale = model.config.initializer_range / reduced.std()
    table = model.bert.embeddings.word_embeddings.weight
    before = table[special_ids].clone()
    table.zero_()
    table[:, :kept] = reduced * scale
    table[special_ids] = before
    for projection in model.projections.values():
        weight = projection.get_parameter("weight")  # (D, H)
        weight.zero_()
        weight[:, :kept] = components[:kept].T
