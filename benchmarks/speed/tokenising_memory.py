"""Whether the memory for tokenising grows with the text.

    python -m benchmarks.speed.tokenising_memory --corpus ../shared/corpus/simplewiki.txt.xz

`build_corpus` tokenises texts of 200 MB and 2 GB, made from the paragraphs of a corpus in random order, in fresh
processes: once with one process and once with two. Temporarily needs about 5 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table

SECONDS_BETWEEN_LOOKS = 0.02
PARAGRAPHS_OF_A_DOCUMENT = 5
CODE = """
import sys
from bort.data.corpus.build import build_corpus
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer
corpus = build_corpus([sys.argv[1]], load_tokenizer(locate("bort-nano")), sys.argv[2], processes=int(sys.argv[3]))
print(corpus.info.train_tokens + corpus.info.valid_tokens)
"""


def write_text(corpus: Path, out: Path, size_bytes: int, read_bytes: int) -> None:
    """Fill a file with the first paragraphs of a corpus, repeatedly, each time in another order."""
    with lzma.open(corpus, "rt", encoding="utf-8") as lines:
        paragraphs = [line for line in lines.read(read_bytes).splitlines(keepends=True) if line.strip()]
    rng, written = random.Random(0), 0
    with open(out, "w", encoding="utf-8") as file:
        while written < size_bytes:
            rng.shuffle(paragraphs)
            for place, paragraph in enumerate(paragraphs):
                written += len(paragraph.encode())
                file.write(paragraph if place % PARAGRAPHS_OF_A_DOCUMENT else "\n" + paragraph)
                if written >= size_bytes:
                    break


def resident(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process and its children: in total, and without the pages of mapped files."""
    whole = own = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            memory = each.memory_info()
            whole, own = whole + memory.rss, own + memory.rss - getattr(memory, "shared", 0)
    return whole, own


def tokenise(text: Path, out: Path, processes: int) -> dict[str, Any]:
    """Tokenise in a fresh process and monitor it: peak memory in bytes, seconds, tokens."""
    began, peak, own_peak = time.monotonic(), 0, 0
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, str(text), str(out), str(processes)], stdout=subprocess.PIPE, text=True
    )
    watched = psutil.Process(child.pid)
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak, own_peak
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            with contextlib.suppress(psutil.Error):
                whole, own = resident(watched)
                peak, own_peak = max(peak, whole), max(own_peak, own)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = child.communicate()[0]
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"tokenising {text} ended with {child.returncode}")
    seconds = time.monotonic() - began
    size = text.stat().st_size
    return {"peak_bytes": peak, "own_peak_bytes": own_peak, "seconds": seconds, "tokens": int(said), "bytes": size}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    small, large = settings.megabytes
    about = f"""
        Peak resident memory of tokenising with bort-nano's tokenizer in fresh processes, summed over the main process
        and its children, sampled every {1000 * SECONDS_BETWEEN_LOOKS:.0f} ms: in total, and without shared pages, which
        belong to mapped files (mostly libraries). The texts are paragraphs of {Path(settings.corpus).name} in random
        order. MB/s is bytes of text divided by the total time, including the start of Python and imports. One run each.
    """
    rows, targets = [], []
    for processes in settings.processes:
        one, other = (figures[json.dumps([megabytes, processes])] for megabytes in (small, large))
        name = f"{processes} process{'es' if processes > 1 else ''}"
        speeds = [f"{each['bytes'] / 1e6 / each['seconds']:.1f}" for each in (one, other)]
        for what, key in (("all", "peak_bytes"), ("without mapped files", "own_peak_bytes")):
            growth = other[key] / one[key]
            rows.append([f"{name}, {what}", *(f"{each[key] / 2**20:.0f}" for each in (one, other)), f"{growth:.2f}"])
            rows[-1] += speeds if key == "peak_bytes" else ["", ""]
            what_grows = f"{name}, {what}: peak for {large} MB relative to {small} MB"
            targets.append(Target(what_grows, growth, "<=", 1.2, "x", leads=key == "peak_bytes"))
    head = ["peak resident memory", *(f"{n} MB of text, MiB" for n in (small, large)), "ratio"]
    head += [f"{n} MB: MB/s" for n in (small, large)]
    return Shown(about, table(head, rows), tuple(targets))


BENCHMARK = Benchmark(
    name="tokenising_memory",
    page="speed",
    title="Memory for tokenising",
    question="Does the memory for tokenising grow with the text?",
    sources=("src/bort/data/corpus",),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--megabytes", type=int, nargs=2, default=[200, 2000], help="the small text and the large one")
    made.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    made.add_argument("--work", type=Path, default=None, help="folder on a disk with room; by default a temporary one")
    arguments = made.parse_args()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for megabytes in arguments.megabytes:
            text, out = Path(folder) / f"{megabytes}.txt", Path(folder) / "corpus"
            write_text(arguments.corpus, text, megabytes * 10**6, 60 * 10**6)
            for processes in arguments.processes:
                found[json.dumps([megabytes, processes])] = tokenise(text, out, processes)
            text.unlink()
    publish(BENCHMARK, found, arguments)


if __name__ == "__main__":
    main()
