"""Give all readers damaged files by the million; what is found is kept, and the run goes on.

    PYTHONPATH=tests python -m fuzz.long_run --out build/fuzz --count 1000000

Each reader runs in a process of its own. Where atheris is installed, coverage of the package guides the damage; else
chance alone. A run that was stopped goes on where it was: `OUT/<reader>/done.json` counts the inputs, and
`OUT/<reader>/found` holds one input and the traceback of each kind of failure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz.readers import Reader

STEP = 500
"""Inputs between two notes of how far it is."""
LONGEST_SECONDS = 120
"""Wall time after which an input counts as one that never ends."""
MEMORY_MB = 6000


def slug(name: str) -> str:
    return name.replace(" ", "-")


class Work:
    """One reader's inputs."""

    def __init__(self, reader: Reader, out: Path, wanted: int) -> None:
        from fuzz.probe import names

        self.reader, self.out, self.wanted = reader, out, wanted
        (out / "found").mkdir(parents=True, exist_ok=True)
        self.state = out / "done.json"
        self.done: dict[str, Any] = {"inputs": 0, "refused": 0, "seconds": 0.0, "found": {}}
        if self.state.is_file():
            self.done = json.loads(self.state.read_text("utf-8"))
        self.around = names(self.reader.folder.parent)
        self.began = time.process_time()

    def one(self, data: bytes) -> None:
        """Read one input: its first byte chooses the file."""
        from fuzz.probe import probe

        seed, content = self.reader.seeds[(data or b"\0")[0] % len(self.reader.seeds)], data[1:]
        with self.reader.holding(seed, content):
            try:
                self.done["refused"] += bool(probe(seed.read, self.reader.folder, len(content), self.around))
            except Exception as error:
                self.keep(error, seed.file, content)
        self.done["inputs"] += 1
        if self.done["inputs"] % STEP == 0 or self.done["inputs"] >= self.wanted:
            self.note()

    def keep(self, error: Exception, file: str, content: bytes) -> None:
        """Keep the first input of each kind of failure: the same error at the same place of the package."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/bort/" in frame.filename] or frames
        kind = f"{type(error).__name__} {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if kind not in self.done["found"]:
            name = hashlib.sha256(content).hexdigest()[:12]
            (self.out / "found" / f"{name}.input").write_bytes(content)
            told = "".join(traceback.format_exception(error))
            (self.out / "found" / f"{name}.txt").write_text(f"{file}\n{kind}\n{told}", "utf-8", "replace")
        self.done["found"][kind] = self.done["found"].get(kind, 0) + 1

    def note(self) -> None:
        self.done["seconds"] += time.process_time() - self.began
        self.began = time.process_time()
        aside = self.state.with_suffix(".new")
        aside.write_text(json.dumps(self.done, indent=1))
        aside.rename(self.state)
        if self.done["inputs"] >= self.wanted:
            shutil.rmtree(self.reader.folder.parents[1])
            os._exit(0)  # libFuzzer never returns


def guided(work: Work, corpus: Path) -> None:
    """Let coverage choose which inputs are damaged further."""
    import atheris

    seeds = work.reader.seeds
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(bytes([number]) + (seed.content or b""))

    def damage(data: bytes, most: int, chance: int) -> bytes:
        from fuzz.mutations import damaged

        random = Random(chance)
        if not data or random.random() < 0.02:
            data = bytes([number := random.randrange(len(seeds))]) + (seeds[number].content or b"")
        seed = seeds[data[0] % len(seeds)]
        if random.random() < 0.15:
            return data[:1] + bytes(atheris.Mutate(data[1:] or b"\0", max(2, most - 1)))
        content = damaged(data[1:], random)
        return (data[:1] + content)[:most] if seed else data

    def read(data: bytes) -> None:
        seed, content = seeds[(data or b"\0")[0] % len(seeds)], data[1:]
        if seed.packs and len(data) % 2:
            content = seed.packs(content)
        work.one(data[:1] + content)

    longest = max(len(seed.content or b"") for seed in seeds) * 2 + 200_000
    flags = [f"-max_len={longest}", f"-timeout={LONGEST_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", "-verbosity=0"]
    flags += [f"-report_slow_units={LONGEST_SECONDS}"]
    flags += [f"-artifact_prefix={work.out / 'found'}/", f"-seed={work.done['inputs'] + 1}", "-len_control=0"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], read, custom_mutator=damage)
    atheris.Fuzz()


def by_chance(work: Work) -> None:
    chance = Random(work.done["inputs"])
    while True:
        number = chance.randrange(len(work.reader.seeds))
        work.one(bytes([number]) + work.reader.damaged(work.reader.seeds[number], chance))


def run_reader(name: str, out: Path, wanted: int, engine: str) -> None:
    logging.disable(logging.CRITICAL)
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["bort"]):
            import fuzz.readers  # noqa: F401
    from fuzz.readers import ready

    with ready(name) as reader:
        work = Work(reader, out, wanted)
        if work.done["inputs"] >= wanted:
            return
        if engine == "atheris":
            guided(work, out / "corpus")
        by_chance(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs of all readers together")
    parser.add_argument("--only", nargs="*", default=[], help="readers")
    engine = "atheris" if find_spec("atheris") else "chance"
    parser.add_argument("--engine", choices=["atheris", "chance"], default=engine)
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        run_reader(given.reader, given.out / slug(given.reader), given.count, given.engine)
        return
    from fuzz.readers import READERS, SHARES

    for name in given.only or READERS:
        wanted = max(1, round(given.count * SHARES[name] / sum(SHARES.values())))
        words = ["--reader", name, "--out", str(given.out), "--count", str(wanted), "--engine", given.engine]
        given.out.mkdir(parents=True, exist_ok=True)
        log = given.out / f"{slug(name)}.log"
        with log.open("ab") as said:
            left = subprocess.run(
                [sys.executable, "-m", "fuzz.long_run", *words], stdout=said, stderr=said, check=False
            )
        state = given.out / slug(name) / "done.json"
        done = json.loads(state.read_text("utf-8")) if state.is_file() else {}
        found = done.get("found", {})
        print(f"{name}: {done.get('inputs', 0):,} of {wanted:,} inputs, {len(found)} kinds of failures", flush=True)
        if left.returncode:
            print(f"{name}: ended with {left.returncode}: see {log}", flush=True)


if __name__ == "__main__":
    main()
