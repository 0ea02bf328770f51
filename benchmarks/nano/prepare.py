"""Turn the texts into token ids of the student's cut vocabulary, in one shuffled order, memory-mapped by `train`.

    python -m benchmarks.nano.prepare --corpus ../shared/corpus --teacher MINILM --out build/nano/texts

Writes the teacher's tokenizer, cut, with `kept.npy` (the teacher's id of each of its ids), and for `singles`,
`pairs.a` and `pairs.b` the ids and where each row starts.
"""

from __future__ import annotations

import argparse
import itertools
import lzma
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bort.model.checkpoints import quiet
from bort.model.tokenization import load_tokenizer
from bort.model.vocabulary_cut import count_tokens, cut_vocabulary

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']? +(?=[A-Z\"“'])")
_CHUNK = 20_000


@dataclass(frozen=True)
class Settings:
    """What goes in, and how much of it.

    Args:
        corpus: Folder of `messages`, `pairs`, `simplewiki`, `enwiki`, `gutenberg` (`.xz`).
        teacher: Folder whose `tokenizer.json` is cut.
        vocabulary: Entries that remain.
        counted: Texts in which entries are counted.
        messages: Short messages at most.
        sentences: Sentences of each of the three prose corpora.
        paragraph_share: So many of the prose rows are whole paragraphs, so that long texts are seen, too.
        longest: Tokens of a row; the rest is cut off.
        longest_of_pair: Tokens of each text of a pair.
    """

    corpus: Path
    teacher: Path
    out: Path
    vocabulary: int = 17_408
    counted: int = 400_000
    messages: int = 1_900_000
    sentences: tuple[tuple[str, int], ...] = (("simplewiki", 400_000), ("enwiki", 400_000), ("gutenberg", 200_000))
    paragraph_share: float = 0.06
    longest: int = 190
    longest_of_pair: int = 70
    seed: int = 0


def lines(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line := line.strip():
                yield line


def prose(path: Path, most: int, paragraph_share: float, rng: random.Random) -> Iterator[str]:
    """Sentences of 4 to 60 words, at most three of a paragraph, and a few whole paragraphs."""
    given = 0
    for paragraph in lines(path):
        if rng.random() < paragraph_share:
            taken = [paragraph]
        else:
            taken = [text for text in _SENTENCE_END.split(paragraph) if 4 <= len(text.split()) <= 60]
            taken = rng.sample(taken, min(3, len(taken)))
        yield from taken
        given += len(taken)
        if given >= most:
            return


def write(rows: Iterable[list[int]], stem: Path) -> int:
    """Write ragged rows of ids: `.ids.npy` uint16, `.starts.npy` int64 of one more entry than rows."""
    rows = list(rows)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    np.save(f"{stem}.ids.npy", np.fromiter(itertools.chain.from_iterable(rows), np.uint16, int(starts[-1])))
    np.save(f"{stem}.starts.npy", starts)
    return int(starts[-1])


def encode(tokenizer: Tokenizer, texts: list[str], longest: int) -> Iterator[list[int]]:
    for start in range(0, len(texts), _CHUNK):
        for row in tokenizer.encode_batch_fast(texts[start : start + _CHUNK], add_special_tokens=False):
            yield row.ids[:longest]


def prepare(settings: Settings) -> None:
    rng = random.Random(settings.seed)
    texts = list(itertools.islice(lines(settings.corpus / "messages.txt.xz"), settings.messages))
    print(f"messages: {len(texts):,}", flush=True)
    for name, most in settings.sentences:
        before = len(texts)
        texts += prose(settings.corpus / f"{name}.txt.xz", most, settings.paragraph_share, rng)
        print(f"{name}: {len(texts) - before:,}", flush=True)
    rng.shuffle(texts)
    pairs = [line.split("\t") for line in lines(settings.corpus / "pairs.tsv.xz")]
    rng.shuffle(pairs)

    full = load_tokenizer(settings.teacher)
    cut = cut_vocabulary(full, count_tokens(full, texts[: settings.counted]), settings.vocabulary)
    settings.out.mkdir(parents=True, exist_ok=True)
    with quiet():
        cut.tokenizer.save_pretrained(settings.out)
    np.save(settings.out / "kept.npy", cut.kept)
    print(f"vocabulary: {len(cut.kept):,} entries, {cut.covered:.3%} of the tokens", flush=True)

    student = cut.tokenizer.backend_tokenizer
    tokens = write(encode(student, texts, settings.longest), settings.out / "singles")
    for column, side in enumerate("ab"):
        sides = [pair[column] for pair in pairs]
        tokens += write(encode(student, sides, settings.longest_of_pair), settings.out / f"pairs.{side}")
    print(f"{len(texts):,} texts and {len(pairs):,} pairs, {tokens:,} tokens", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("corpus", "teacher", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    prepare(Settings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
