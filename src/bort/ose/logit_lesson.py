"""Candidates that learn their teacher's distributions at masked positions, as published (arXiv 2010.10499)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, PreTrainedTokenizerFast

from bort.bounds import Precision
from bort.data.corpus.corpus import Corpus, Part, unigram_frequencies
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.devices import best_device
from bort.model.mlm_loss import SoftTargets
from bort.model.modelling import BortForMaskedLM
from bort.ose.arguments import ErrorKind
from bort.ose.inherited import InheritedEncoder
from bort.ose.short_training import LEAST_ERROR, Batches, autocast, moved
from bort.ose.space import Shape
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.targets import LogitTargets, cached_targets, weights_of
from bort.pretraining.init_weights import start_from_sinusoids
from bort.pretraining.taught_rows import Batch, TaughtRows
from bort.progress import bar

TRAINING_TOP, TRAINING_TAIL = 64, 16
HELD_OUT_TOP, HELD_OUT_TAIL = 4096, 64
_HELD_OUT_SEED = 201_011
"""Seed of the masks of held-out rows, whatever the run's seed."""

Starts = Callable[[Shape, int], BortForMaskedLM]
"""Creates a member before its training, from shape and seed."""


@dataclass(frozen=True)
class RandomStart:
    """Random weights, with sinusoidal positions and log token frequencies as the head's bias, as in `bort pretrain`.

    Args:
        config: Returns the configuration of a shape.
        log_frequencies: Log frequency of each token. *Shape:* (vocab,).
    """

    config: Callable[[Shape], BertConfig]
    log_frequencies: NDArray[np.float64]

    def __call__(self, shape: Shape, seed: int) -> BortForMaskedLM:
        """Create a model."""
        torch.manual_seed(seed)
        model = BortForMaskedLM(self.config(shape))
        start_from_sinusoids(model)
        with torch.no_grad():
            model.cls.predictions.bias.copy_(torch.from_numpy(self.log_frequencies))
        return model


@dataclass(frozen=True)
class InheritedStart:
    """A member's weights from a trained encoder, whatever the seed."""

    inherited: InheritedEncoder

    def __call__(self, shape: Shape, seed: int) -> BortForMaskedLM:
        """Create a part of the encoder."""
        return self.inherited.masked_lm(shape)


@dataclass(frozen=True)
class LogitLesson:
    """A `bort.ose.short_training.Lesson` on the teacher's distributions.

    Args:
        starts: Creates members before their training.
        training: One batch per step, with the teacher's outputs.
        held_out: Batches to measure the error on, with the teacher's outputs.
        tokens: The tokenizer of all members.
        error_kind: Cross-entropy with the teacher's outputs, or its excess over their entropy.
        precision: Precision of the computation.
    """

    starts: Starts
    training: Sequence[Batch]
    held_out: Sequence[Batch]
    tokens: PreTrainedTokenizerFast
    error_kind: ErrorKind
    precision: Precision

    @property
    def starts_trained(self) -> bool:
        """Whether members start from trained weights."""
        return isinstance(self.starts, InheritedStart)

    @property
    def perfect(self) -> float:
        """The teacher's own entropy, or a negligible error."""
        return self.entropy if self.error_kind == "cross_entropy" else LEAST_ERROR

    def start(self, shape: Shape, seed: int) -> BortForMaskedLM:
        """A member before its training."""
        return self.starts(shape, seed)

    def batches(self, shape: Shape) -> Sequence[Batch]:
        """The training batches, the same for all members."""
        return self.training

    def tokenizer(self, shape: Shape) -> PreTrainedTokenizerFast:
        """The tokenizer, the same for all members."""
        return self.tokens

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """KL(teacher || student) at the masked positions, which has the same gradient as the cross-entropy."""
        log_p = batch["log_p"].float()
        soft = SoftTargets(
            ids=batch["ids"],
            log_p=log_p,
            weights=weights_of(log_p, training_tail(len(self.tokens))),
            temperature=1.0,
            mlm_weight=0.0,
            kd_weight=1.0,
        )
        with autocast(self.precision):
            loss: Tensor = model(
                input_ids=batch["input_ids"],
                attention_mask=batch.get("attention_mask"),
                labels=batch["labels"],
                soft_targets=soft,
                loss_only=True,
            ).loss
        return loss

    def error(self, model: Any, shape: Shape) -> float:
        """ê in nats."""
        found = self.cross_entropy(model)
        if self.error_kind == "kl" and np.isfinite(found):
            # With half-precision, sampled outputs, a perfect student may be slightly below its teacher's entropy.
            return max(found - self.entropy, LEAST_ERROR)
        return found

    @torch.no_grad()
    def cross_entropy(self, model: Any) -> float:
        """Cross-entropy of a model with the teacher's outputs on the held-out rows, in nats per masked position."""
        model.eval()

        def of_model(batch: Batch) -> Tensor:
            with autocast(self.precision):
                logits = model(input_ids=batch["input_ids"], labels=batch["labels"]).logits
            surprise: Tensor = -logits.float().log_softmax(-1).gather(-1, batch["ids"])
            return surprise

        return self._mean(of_model)

    @cached_property
    def entropy(self) -> float:
        """Entropy of the teacher's outputs: the cross-entropy of a perfect student."""
        return self._mean(lambda batch: -batch["log_p"].float())

    def _mean(self, surprise: Callable[[Batch], Tensor]) -> float:
        """A value per token, averaged with the teacher's probabilities and over all held-out masked positions."""
        total, positions = 0.0, 0
        for batch in self.held_out:
            here = moved(batch, best_device())
            weights = weights_of(here["log_p"].float(), held_out_tail(len(self.tokens)))
            total += float((weights * surprise(here)).double().sum())
            positions += len(weights)
        return total / positions

    def in_memory(self) -> LogitLesson:
        """The same lesson with all batches in memory."""
        return replace(self, training=list(self.training), held_out=list(self.held_out))


class FreshTeacher(MaskedLMTeacher):
    """The maximum point with random weights.

    Args:
        top: Its shape.
        start: Creates it.
        seed: Random seed of the candidates' weights; the teacher uses the next one.
    """

    def __init__(self, top: Shape, start: RandomStart, seed: int) -> None:
        self.source, self.device = f"random weights of {top}, seed {seed}", best_device()
        self.model = start(top, seed + 1).to(self.device).eval()
        self.model.requires_grad_(False)
        self.size = self.model.config.vocab_size
        positions = self.model.config.max_position_embeddings
        self.key = {"random_weights": {"positions": positions, "vocabulary": self.size}}


@dataclass(frozen=True)
class MaskedRows:
    """Rows of a corpus for a lesson.

    Args:
        corpus: The corpus that they are cut from.
        tokenizer: The tokenizer of the corpus.
        steps: Number of training batches.
        rows_per_step: Rows per batch.
        row_length: Tokens per row, including the two special ones.
        held_out: Maximum number of rows to measure the error on.
        mask_probability: Share of the tokens to predict.
        seed: Random seed of the training rows and their masks.
    """

    corpus: Corpus
    tokenizer: PreTrainedTokenizerFast
    steps: int
    rows_per_step: int
    row_length: int
    held_out: int
    mask_probability: float
    seed: int

    @property
    def log_frequencies(self) -> NDArray[np.float64]:
        """Log frequency of each token in the training part. *Shape:* (vocab,)."""
        found: NDArray[np.float64] = np.log(unigram_frequencies(self.corpus.tokens("train"), len(self.tokenizer)))
        return found

    def rows(self, part: Part) -> PackedRows:
        """The first rows in the order of the seed; training rows repeat if the corpus has too few.

        Raises:
            BortError: The held-out part has no row of this length.
        """
        tokens, tokenizer, training = self.corpus.tokens(part), self.tokenizer, part == "train"
        available = len(tokens) // (self.row_length - 2)
        if not training and not available:
            rule = f"the held-out part of the corpus has no row of {self.row_length} tokens; raise --valid-share"
            raise BortError(rule, setting="valid_share", value=self.corpus.info.valid_share)
        count = self.steps * self.rows_per_step if training else min(self.held_out, available)
        masker = Masker(
            mask_id=tokenizer.mask_token_id,
            special_ids=tuple(sorted(tokenizer.all_special_ids)),
            vocab_size=len(tokenizer),
            probability=self.mask_probability,
        )
        return PackedRows(
            tokens,
            masker,
            self.row_length,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            count,
            self.seed if training else _HELD_OUT_SEED,
            distinct=min(count, available) or None,
            fixed_masks=True,
        )


def logit_lesson(
    masked: MaskedRows,
    teacher: MaskedLMTeacher,
    starts: Starts,
    folder: Path,
    error_kind: ErrorKind,
    precision: Precision,
) -> LogitLesson:
    """Run the teacher on all rows, or read its cached outputs, and create the lesson.

    Args:
        masked: The rows.
        teacher: A teacher with their vocabulary.
        starts: Creates members before their training.
        folder: Folder for the teacher's outputs.
        error_kind: See `LogitLesson`.
        precision: Precision of the candidates' training.
    """
    vocab_size, pad_id = len(masked.tokenizer), masked.tokenizer.pad_token_id

    def taught(part: Part, name: str, top_k: int, tail: int) -> Batches:
        rows = masked.rows(part)
        asked = LogitTargets(
            teacher,
            top_k=top_k,
            tail=tail,
            temperature=1.0,
            dtype="float16",
            pad_id=pad_id,
        )
        with bar("asking the teacher", rows.rows_per_epoch) as shown:

            def progress(done: int, tokens: int) -> None:
                shown.update(done, f"{done:,} rows, {tokens / 1e6:.2f} M tokens")

            answers = cached_targets(asked, rows, folder / name, masked.corpus.tokens(part).digest(), progress)
        return Batches(TaughtRows(rows, (answers,)), masked.rows_per_step, pad_id)

    training = taught("train", "train", TRAINING_TOP, training_tail(vocab_size))
    held_out = taught("valid", "held-out", HELD_OUT_TOP, held_out_tail(vocab_size))
    return LogitLesson(starts, training, held_out, masked.tokenizer, error_kind, precision)


def training_tail(vocab_size: int) -> int:
    """Number of samples that represent the tokens beyond the most probable ones; 0 if there are no others."""
    return TRAINING_TAIL if vocab_size > TRAINING_TOP else 0


def held_out_tail(vocab_size: int) -> int:
    """The same for held-out rows."""
    return HELD_OUT_TAIL if vocab_size > HELD_OUT_TOP else 0
