"""Sentences of three prose corpora, one per line, on which bort-nano trains in addition to short messages.

python -m benchmarks.nano.corpus --corpus ../shared/corpus --out build/nano/sentences.txt.xz
"""

from __future__ import annotations

import argparse
import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

from bort.files import write_aside

SENTENCES = (("simplewiki", 220_000), ("enwiki", 160_000), ("gutenberg", 60_000))
PARAGRAPH_SHARE = 0.06
"""Share of the paragraphs that are kept whole, so that training sees long texts, too."""
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']? +(?=[A-Z\"“'])")


def lines(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line := line.strip():
                yield line


def prose(path: Path, most: int, rng: random.Random) -> Iterator[str]:
    """Sentences of 4 to 60 words, at most three per paragraph, and a few whole paragraphs."""
    given = 0
    for paragraph in lines(path):
        if rng.random() < PARAGRAPH_SHARE:
            taken = [paragraph]
        else:
            taken = [text for text in _SENTENCE_END.split(paragraph) if 4 <= len(text.split()) <= 60]
            taken = rng.sample(taken, min(3, len(taken)))
        yield from taken
        given += len(taken)
        if given >= most:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder of simplewiki, enwiki and gutenberg (.txt.xz)"
    )
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    rng = random.Random(0)
    texts = [text for name, most in SENTENCES for text in prose(told.corpus / f"{name}.txt.xz", most, rng)]
    told.out.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(told.out, "wb") as file, lzma.open(file, "wt", encoding="utf-8", preset=6) as packed:
        packed.writelines(f"{text}\n" for text in texts)
    print(f"{told.out}: {len(texts):,} texts, {told.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
