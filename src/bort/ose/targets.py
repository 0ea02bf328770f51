"""What candidates are drawn to: the outputs of the maximum point, asked for once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus, Part, unigram_frequencies
from bort.data.corpus.masking import Masker
from bort.data.corpus.rows import PackedRows
from bort.errors import BortError
from bort.model.devices import best_device
from bort.ose.arguments import ExtractArguments
from bort.ose.plan import SearchPlan
from bort.ose.short_training import (
    HELD_OUT_TOP,
    TRAINING_TAIL,
    TRAINING_TOP,
    Batches,
    Surrogate,
    held_out_tail,
    new_model,
)
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.targets import LogitTargets, cached_targets
from bort.pretraining.taught_rows import TaughtRows
from bort.progress import bar

_HELD_OUT_SEED = 20_101_1


class FreshTeacher(MaskedLMTeacher):
    """The maximum point with random weights.

    Args:
        plan: Its shape.
        log_frequencies: Of each token. *Shape:* (vocab,).
        seed: Of its weights.
        device: Where it runs.
    """

    def __init__(self, plan: SearchPlan, log_frequencies: NDArray[np.float64], seed: int, device: torch.device) -> None:
        self.source, self.device = f"random weights of {plan.top}, seed {seed}", device
        self.model = new_model(plan.costs.config(plan.top), log_frequencies, seed + 1).to(device).eval()
        self.model.requires_grad_(False)


class Targets:
    """The rows of a search with the teacher's outputs.

    Args:
        arguments: Of the run.
        plan: Of the search.
        corpus: Where the rows are cut from.
        tokenizer: Whose ids those are.
        folder: For the outputs.
    """

    def __init__(
        self,
        arguments: ExtractArguments,
        plan: SearchPlan,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
    ) -> None:
        self.arguments, self.plan, self.corpus, self.tokenizer = arguments, plan, corpus, tokenizer
        self.folder, self.device = folder, best_device()
        self.log_frequencies: NDArray[np.float64] = np.log(
            unigram_frequencies(corpus.tokens("train"), plan.costs.vocab_size)
        )
        count = arguments.steps * arguments.rows_per_step
        self.training_rows = self._rows("train", count, arguments.seed)
        self.held_out_rows = self._rows("valid", arguments.held_out_rows, _HELD_OUT_SEED)
        self._teacher: MaskedLMTeacher | None = None

    @property
    def teacher(self) -> MaskedLMTeacher:
        """The one that is given, or the maximum point with random weights; made when it is first asked for."""
        if self._teacher is None:
            if self.arguments.teacher is not None:
                self._teacher = MaskedLMTeacher(self.arguments.teacher, self.tokenizer.get_vocab(), self.device)
            else:
                self._teacher = FreshTeacher(self.plan, self.log_frequencies, self.arguments.seed, self.device)
        return self._teacher

    def surrogate(self) -> Surrogate:
        """Ask the teacher about all rows, or read what it said, and make what trains candidates on it."""
        vocab_size = self.plan.costs.vocab_size
        training = self._taught(self.training_rows, "train", TRAINING_TOP, TRAINING_TAIL)
        held_out = self._taught(self.held_out_rows, "held-out", HELD_OUT_TOP, held_out_tail(vocab_size))
        self._teacher = None  # a large one would take memory for nothing
        return Surrogate(self.arguments, training, held_out, self.log_frequencies)

    def _rows(self, part: Part, count: int, seed: int) -> PackedRows:
        """The first `count` rows that a seed gives, again and again where the corpus has fewer."""
        tokens, arguments = self.corpus.tokens(part), self.arguments
        available = len(tokens) // (arguments.row_length - 2)
        if part == "valid" and not available:
            rule = f"the held-out part of the corpus has no row of {arguments.row_length} tokens; raise --valid-share"
            raise BortError(rule, setting="valid_share", value=arguments.valid_share)
        count = count if part == "train" else min(count, available)
        masker = Masker(
            mask_id=self.tokenizer.mask_token_id,
            special_ids=tuple(sorted(self.tokenizer.all_special_ids)),
            vocab_size=len(self.tokenizer),
            probability=arguments.mask_probability,
        )
        return PackedRows(
            tokens,
            masker,
            arguments.row_length,
            self.tokenizer.cls_token_id,
            self.tokenizer.sep_token_id,
            count,
            seed,
            distinct=min(count, available) or None,
            fixed_masks=True,
        )

    def _taught(self, rows: PackedRows, name: str, top_k: int, tail: int) -> Batches:
        asked = LogitTargets(
            self.teacher,
            top_k=top_k,
            tail=tail if top_k < self.plan.costs.vocab_size else 0,
            temperature=1.0,
            dtype="float16",
            pad_id=self.tokenizer.pad_token_id,
        )
        with bar("asking the teacher", rows.rows_per_epoch) as shown:

            def progress(done: int, tokens: int) -> None:
                shown.update(done, f"{done:,} rows, {tokens / 1e6:.2f} M tokens")

            answers = cached_targets(asked, rows, self.folder / name, self._fingerprint(name), progress)
        return Batches(TaughtRows(rows, (answers,)), self.arguments.rows_per_step, self.tokenizer.pad_token_id)

    def _fingerprint(self, name: str) -> str:
        return self.corpus.tokens("train" if name == "train" else "valid").digest()
