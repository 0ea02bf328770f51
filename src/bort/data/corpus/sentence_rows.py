"""Training rows of one sentence each, in steps of similar length, so that little is computed on padding."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.data.corpus.corpus import Tokens
from bort.data.corpus.rows import TrainingRows
from bort.data.corpus.shuffle import permutation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHORTEST = 5
"""Minimum tokens of a sentence; anything shorter is more often a number or a title."""
_POOL = 50
_BLOCK = 1 << 22
_MARKS = (".", "!", "?", "…")
_CLOSING = "\"'”’)»"
_SPACES = ("Ġ", "▁")
"""A leading space in byte-level BPE, and in SentencePiece."""


@dataclass(frozen=True)
class Punctuation:
    """Which ids can end a sentence, and which can begin the next. *Shapes:* (vocab,) each, booleans."""

    ends: NDArray[np.bool_]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Punctuation:
        """Find the ids in a vocabulary: a sentence ends with `.`, `!`, `?` or `…` (in byte-level BPE and SentencePiece
        closing quotes may follow) before a word with a leading space, or in WordPiece, which keeps no spaces, before a
        letter.

        A rule of thumb: "Dr. Smith" is cut in two, as in most sentence corpora.
        """
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        if json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "WordPiece":
            special = set(tokenizer.all_special_ids)
            begins = [piece[0].isalpha() and number not in special for number, piece in enumerate(pieces)]
            return cls(np.array([piece in _MARKS for piece in pieces]), np.array(begins))
        bare = [tokenizer.convert_tokens_to_string([piece]).strip().rstrip(_CLOSING) for piece in pieces]
        begins = [piece.startswith(_SPACES) for piece in pieces]
        return cls(np.array([text.endswith(_MARKS) for text in bare]), np.array(begins))


def find_sentences(
    tokens: Tokens, punctuation: Punctuation, *, end_id: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the sentences of `SHORTEST` to `longest` tokens; the end-of-document token belongs to none.

    Returns:
        Start and end (exclusive) of each sentence, in tokens. *Shapes:* (sentences,) each.
    """
    cuts = [np.zeros(1, dtype=np.int64)]
    for start in range(0, len(tokens), _BLOCK):
        block = np.asarray(tokens[start : start + _BLOCK + 1])
        ends = punctuation.ends[block[:-1]] & punctuation.begins[block[1:]]
        document = (block == end_id)[1:] | (block == end_id)[:-1]
        cuts.append(start + 1 + np.flatnonzero(ends | document))
    starts = np.concatenate(cuts)
    stops = np.append(starts[1:], len(tokens))
    kept = (stops - starts >= SHORTEST) & (stops - starts <= longest)
    return starts[kept], stops[kept]


@dataclass(frozen=True, kw_only=True)
class SentenceRows(TrainingRows):
    """Rows of one sentence each. An epoch is shuffled, sorted by length within pools of 50 steps, and cut into steps,
    whose order is then shuffled. Its first rows fill the last step of the epoch before.

    Args:
        punctuation: Ids that end and begin sentences.
        rows_per_step: Rows per training step, over all devices.
    """

    punctuation: Punctuation
    rows_per_step: int = 1

    @cached_property
    def _sentences(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return find_sentences(self.tokens, self.punctuation, end_id=self.eos_id, longest=self.sequence_length - 2)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, in order of row number, without the special ones. *Shape:* (rows_per_epoch,)."""
        starts, stops = self._sentences
        lengths: NDArray[np.int64] = stops - starts
        return lengths if self.distinct is None else lengths[self.places]

    kind = "sentences"

    @property
    def available(self) -> int:
        """Number of sentences of suitable length in the corpus."""
        return len(self._sentences[0])

    @property
    def too_little(self) -> str:
        """End of the error message for a corpus without a single row."""
        return f"holds no sentence of {SHORTEST} to {self.sequence_length - 2} tokens"

    def span(self, place: int) -> tuple[int, int]:
        """Return the token span (end exclusive) of a sentence; sentences are in corpus order."""
        starts, stops = self._sentences
        return int(starts[place]), int(stops[place])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the row numbers of an epoch, with similar lengths within each step. *Shape:* (rows_per_epoch,)."""
        return order_of_like_lengths(self.lengths, self.seed, epoch, self.rows_per_step)


def order_of_like_lengths(lengths: NDArray[np.int64], seed: int, epoch: int, rows_per_step: int) -> NDArray[np.int64]:
    """Return a random order in which the rows of a step have similar lengths, and long and short steps are mixed.

    Only the steps that two epochs share, and a last incomplete one, have rows of any length.

    Args:
        lengths: Length of each row. *Shape:* (rows,).
        seed: Random seed.
        epoch: Number of the epoch; each has its own order.
        rows_per_step: Rows per training step.

    Returns:
        Row numbers. *Shape:* (rows,).
    """
    shuffled = permutation(seed, epoch, len(lengths))
    # The last step of the earlier epochs may lack rows. These come first, or all steps of the epoch would be shifted.
    lead, shuffled = np.split(shuffled, [-epoch * len(lengths) % rows_per_step])
    full = len(shuffled) - len(shuffled) % rows_per_step
    pool = _POOL * rows_per_step
    pools = [shuffled[start : min(start + pool, full)] for start in range(0, full, pool)]
    by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    steps = np.concatenate([*by_length, shuffled[:0]]).reshape(-1, rows_per_step)
    steps = steps[np.random.default_rng([seed, 2, epoch]).permutation(len(steps))]
    return np.concatenate([lead, steps.reshape(-1), shuffled[full:]])
