"""Texts of a corpus that candidates are compared on: sampled once, the same for all vocabularies."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bort.data.corpus.rows import TrainingRows
from bort.data.corpus.sentence_rows import order_of_like_lengths
from bort.data.corpus.text_blocks import Place, read_blocks
from bort.errors import BortError
from bort.progress import bar

_SHORTEST = 8
"""Minimum number of characters per text."""


def draw(lines: Iterable[str], count: int, seed: int) -> list[str]:
    """Sample lines uniformly without replacement, in one pass and with memory for `count` lines (reservoir sampling).

    Args:
        lines: Lines of a corpus.
        count: How many; all if there are fewer.
        seed: Random seed.

    Returns:
        Lines from different places of the corpus, in random order.
    """
    rng, drawn = random.Random(seed), list[str]()
    for place, line in enumerate(lines):
        if place < count:
            drawn.append(line)
        elif (other := rng.randrange(place + 1)) < count:
            drawn[other] = line
    rng.shuffle(drawn)
    return drawn


def draw_texts(sources: Sequence[str], count: int, seed: int) -> list[str]:
    """Sample texts from text files or hub data sets; very short texts are left out.

    Raises:
        BortError: A source cannot be read, or there are no texts.
    """
    with bar("reading the corpus") as shown:

        def lines() -> Iterable[str]:
            done = 0
            for source in sources:
                for block in read_blocks(source, Place()):
                    for line in block.text.decode("utf-8", "replace").splitlines():
                        if len(text := line.strip()) >= _SHORTEST:
                            done += 1
                            yield text
                    shown.update(done, f"{done:,} texts")

        drawn = draw(lines(), count, seed)
    if not drawn:
        raise BortError("must hold text", setting="corpus", value=list(sources))
    return drawn


@dataclass(frozen=True, kw_only=True)
class TextRows(TrainingRows):
    """Rows of one text each, truncated to the row length; the texts of a step have similar lengths.

    Args:
        starts: Index of each text's first token in `tokens`, and the end of the last text. *Shape:* (texts + 1,).
        paces: Lengths by which texts are grouped into steps. They come from one vocabulary, so that rows of all
            vocabularies have the same texts in the same steps. *Shape:* (texts,).
        rows_per_step: Texts per step.
    """

    starts: NDArray[np.int64]
    paces: NDArray[np.int64]
    rows_per_step: int

    kind = "texts"
    too_little = "holds no text"

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        paces: NDArray[np.int64] | None,
        *,
        row_length: int,
        rows_per_step: int,
        length: int,
        seed: int,
    ) -> TextRows:
        """Tokenise texts.

        Args:
            texts: The texts.
            tokenizer: The tokenizer.
            paces: See the class; None for the rows' own lengths.
            row_length: Maximum tokens per row, including the two special ones.
            rows_per_step: Texts per step.
            length: Total number of rows; texts repeat if there are fewer.
            seed: Random seed of the order.
        """
        found = tokenizer(
            list(texts), add_special_tokens=False, truncation=True, max_length=row_length - 2, verbose=False
        ).input_ids
        lengths = np.array([len(ids) for ids in found], dtype=np.int64)
        return cls(
            tokens=np.array([number for ids in found for number in ids], dtype=np.uint32),
            masker=None,
            sequence_length=row_length,
            bos_id=tokenizer.cls_token_id,
            eos_id=tokenizer.sep_token_id,
            length=length,
            seed=seed,
            starts=np.concatenate([[0], lengths.cumsum()]),
            paces=lengths if paces is None else paces,
            rows_per_step=rows_per_step,
        )

    @property
    def available(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, without the special ones. *Shape:* (texts,)."""
        return np.diff(self.starts)

    def span(self, place: int) -> tuple[int, int]:
        """Index of a text's first token, and of the token after its last."""
        return int(self.starts[place]), int(self.starts[place + 1])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Numbers of the texts of an epoch, in order. *Shape:* (texts,)."""
        return order_of_like_lengths(self.paces, self.seed, epoch, self.rows_per_step)

    def digest(self) -> str:
        """A hash of all ids and of where the texts begin."""
        return hashlib.sha256(np.asarray(self.tokens).tobytes() + self.starts.tobytes()).hexdigest()
