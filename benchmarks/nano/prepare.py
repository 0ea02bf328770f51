"""Turn texts and pairs into token ids, in one shuffled order; `train` and `finish` memory-map them.

    python -m benchmarks.nano.prepare --texts messages.txt.xz sentences.txt.xz --pairs pairs.tsv.xz \\
      --tokenizer src/bort/assets/bort-nano --out build/nano/texts

Writes the ids and row starts of `singles`, `pairs.a` and `pairs.b`, and the tokenizer.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.nano.corpus import lines
from bort.model.tokenization import load_tokenizer

LONGEST = 128
"""Maximum tokens per row; the rest is truncated."""
LONGEST_OF_PAIR = 70
_SPAN_SHARE = 0.35
_CHUNK = 20_000


def encode(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Iterator[list[int]]:
    for start in range(0, len(texts), _CHUNK):
        for row in tokenizer.encode_batch_fast(texts[start : start + _CHUNK], add_special_tokens=False):
            yield row.ids[:longest]


def span(text: str, rng: random.Random) -> str:
    """Three to twelve consecutive words of a text."""
    words = text.split()
    length = min(rng.randint(3, 12), len(words))
    start = rng.randint(0, len(words) - length)
    return " ".join(words[start : start + length])


def write(rows: Iterator[list[int]], stem: Path) -> NDArray[np.int64]:
    """Write ragged rows of ids: `.ids.npy` uint16, `.starts.npy` int64 with one entry more than rows.

    Returns:
        Where each row starts. *Shape:* (rows + 1,).
    """
    made = list(rows)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in made])]).astype(np.int64)
    np.save(f"{stem}.ids.npy", np.fromiter(itertools.chain.from_iterable(made), np.uint16, int(starts[-1])))
    np.save(f"{stem}.starts.npy", starts)
    return starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, nargs="+", help="one text per line (.xz)")
    parser.add_argument("--pairs", type=Path, required=True, help="text a, text b, relation (.xz)")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, help="maximum lines per file, for a trial")
    told = parser.parse_args()
    rng = random.Random(0)
    texts = [text for path in told.texts for text in itertools.islice(lines(path), told.most)]
    texts += [span(text, rng) for text in texts if rng.random() < _SPAN_SHARE and len(text.split()) > 5]
    rng.shuffle(texts)
    pairs = [line.split("\t") for line in itertools.islice(lines(told.pairs), told.most)]
    rng.shuffle(pairs)
    tokenizer = load_tokenizer(told.tokenizer)
    told.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(told.out)
    backend = tokenizer.backend_tokenizer
    tokens = int(write(encode(backend, texts, LONGEST), told.out / "singles")[-1])
    for column, side in enumerate("ab"):
        sides = [pair[column] for pair in pairs]
        tokens += int(write(encode(backend, sides, LONGEST_OF_PAIR), told.out / f"pairs.{side}")[-1])
    print(f"{len(texts):,} texts and {len(pairs):,} pairs, {tokens:,} tokens", flush=True)


if __name__ == "__main__":
    main()
