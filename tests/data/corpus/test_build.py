"""Tokenising what is larger than memory: in any number of processes, killed and gone on with, in bounded memory."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bort.data.corpus import builder, text_blocks
from bort.data.corpus.build import build_corpus
from bort.data.corpus.corpus import open_corpus
from bort.data.corpus.text_blocks import Interrupted, Place, read_blocks
from bort.errors import BortError
from bort.model.checkpoints import save_tokenizer


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def source(tmp_path, sentences) -> str:
    """Documents of 3 paragraphs, 20 times over, and one of many."""
    documents = ["\n".join(sentences[start : start + 3]) for start in range(0, len(sentences), 3)]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join([*documents * 5, "\n".join(sentences), *documents]), "utf-8")
    return str(path)


@pytest.fixture
def small(monkeypatch):
    """Many blocks and many shards of little text."""
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(builder, "SHARD_TOKENS", 3000)


def test_shards_read_as_one(tiny_tokenizer, tmp_path, source, monkeypatch):
    whole = build_corpus([source], tiny_tokenizer, tmp_path / "whole", valid_share=0.1)
    monkeypatch.setattr(builder, "SHARD_TOKENS", 3000)
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 777)
    cut = build_corpus([source], tiny_tokenizer, tmp_path / "cut", valid_share=0.1)
    assert len(cut.info.shards["train"]) > 5
    for part in ("train", "valid"):
        assert np.array_equal(whole.tokens(part), cut.tokens(part))
        assert np.array_equal(whole.starts(part), cut.starts(part))
        assert whole.tokens(part).digest() == cut.tokens(part).digest()
        ids, size = cut.tokens(part), len(cut.tokens(part))
        for start, stop in [(0, 0), (2990, 3010), (0, 6500), (size - 1, size), (size, size + 9)]:
            assert np.array_equal(ids[start:stop], whole.tokens(part)[:][start:stop])
    assert sum(map(len, cut.tokens("train").blocks(1000))) == cut.info.train_tokens


@pytest.mark.parametrize("share", [0.1, 0.0001])
def test_any_number_of_processes(tiny_tokenizer, tmp_path, source, small, share):
    made = {
        count: build_corpus([source], tiny_tokenizer, tmp_path / str(count), valid_share=share, processes=count)
        for count in (1, 2)
    }
    assert contents(made[1].path) == contents(made[2].path)
    assert made[1].info.valid_tokens > 0


def test_an_error_in_another_process_is_the_first_of_the_text(tiny_tokenizer, tmp_path, source, small):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n" * 3000 + b"\xff\n" + b"fine\n" * 3000 + b"\xfe\n")
    with pytest.raises(BortError, match=r"bad\.txt:3001: must be UTF-8"):
        build_corpus([source, str(bad)], tiny_tokenizer, tmp_path / "c", processes=2)
    assert {file.name for file in tmp_path.iterdir()} == {"text.txt", "bad.txt"}


KILLED = """
import os, signal, sys
from bort.data.corpus import text_blocks
from bort.data.corpus import builder
from bort.data.corpus.build import build_corpus
from bort.model.tokenization import load_tokenizer
text_blocks.BLOCK_BYTES, builder.SHARD_TOKENS = 2000, 3000
folder, share, processes, last = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
calls = 0
def progress(done, tokens):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
    builder.COMMIT_SECONDS = 0 if calls % 7 == 0 else 1e9  # so that something is written that is not committed
sources = [folder + "/text.txt", folder + "/text.txt"]
build_corpus(sources, load_tokenizer(folder + "/t"), folder + "/c", valid_share=share, processes=processes,
             progress=progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("share", "processes", "kills"), [(0.1, 1, [10, 40]), (0.0001, 2, [33])])
def test_a_killed_one_goes_on_to_the_same_bytes(tiny_tokenizer, tmp_path, source, small, share, processes, kills):
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    expected = build_corpus([source, source], tiny_tokenizer, tmp_path / "whole", valid_share=share)
    for last in kills:
        line = [sys.executable, "-c", KILLED, str(tmp_path), str(share), str(processes), str(last)]
        assert subprocess.run(line, check=False).returncode == -signal.SIGKILL
        assert not (tmp_path / "c").exists()
    seen = []
    done = build_corpus(
        [source, source], tiny_tokenizer, tmp_path / "c", valid_share=share, progress=lambda *now: seen.append(now)
    )
    assert seen[0][1] > 5000  # it did not begin again
    assert contents(done.path) == contents(expected.path)
    assert not (tmp_path / ".c.tokenising").exists()


def test_a_process_that_dies_is_told_and_gone_on_from(tiny_tokenizer, tmp_path, source, small, monkeypatch):
    monkeypatch.setattr(builder, "COMMIT_SECONDS", 0.0)

    def kill(done: int, tokens: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(Interrupted, match=r"text\.txt:\d+: a process that tokenises has died"):
        build_corpus([source], tiny_tokenizer, tmp_path / "c", processes=2, progress=kill)
    seen = []
    done = build_corpus([source], tiny_tokenizer, tmp_path / "c", processes=2, progress=lambda *now: seen.append(now))
    assert seen[0][1] > 0
    assert multiprocessing.active_children() == []
    assert contents(done.path) == contents(build_corpus([source], tiny_tokenizer, tmp_path / "d").path)


UNGUARDED = """
import multiprocessing, os, signal, sys
from bort.data.corpus import text_blocks
from bort.data.corpus.build import build_corpus
from bort.model.tokenization import load_tokenizer
text_blocks.BLOCK_BYTES = 2000
folder, killed = sys.argv[1], sys.argv[2] == "killed"
def progress(done, tokens):
    if killed and tokens > 5000:
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
build_corpus([folder + "/text.txt"], load_tokenizer(folder + "/t"), folder + "/c", processes=2, progress=progress)
print("once")
"""


@pytest.mark.slow
def test_processes_neither_run_the_script_again_nor_outlive_it(tiny_tokenizer, tmp_path, source):
    """The script has no `if __name__ == "__main__"`: who imports it tokenises."""
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED, "utf-8")
    line = [sys.executable, str(script), str(tmp_path)]
    killed = subprocess.run([*line, "killed"], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    pids = list(map(int, killed.stdout.split()))
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "a process waits for work from one that is dead"
        time.sleep(0.1)
    assert subprocess.run([*line, "whole"], check=True, capture_output=True, text=True).stdout == "once\n"


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_work_on_another_text_is_thrown_away(tiny_tokenizer, tmp_path, source, small, monkeypatch):
    monkeypatch.setattr(builder, "COMMIT_SECONDS", 0.0)

    def stop(done: int, tokens: int) -> None:
        if tokens > 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus([source], tiny_tokenizer, tmp_path / "c", progress=stop)
    assert (tmp_path / ".c.tokenising" / "state.json").is_file()
    with open(source, "a", encoding="utf-8") as file:
        file.write("\n\nAnd more.\n")
    seen = []
    done = build_corpus([source], tiny_tokenizer, tmp_path / "c", progress=lambda *now: seen.append(now))
    assert seen[0][1] < 5000
    assert contents(done.path) == contents(build_corpus([source], tiny_tokenizer, tmp_path / "d").path)


def test_two_may_not_write_one_corpus(tiny_tokenizer, tmp_path, source):
    def meanwhile(done: int, tokens: int) -> None:
        with pytest.raises(BortError, match="another process is tokenising into this folder"):
            build_corpus([source], tiny_tokenizer, tmp_path / "c")

    build_corpus([source], tiny_tokenizer, tmp_path / "c", progress=meanwhile)


def test_a_file_system_without_locks_will_do(tiny_tokenizer, tmp_path, source, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert build_corpus([source], tiny_tokenizer, tmp_path / "c").info.train_tokens


def test_a_table_is_no_text(tiny_tokenizer, tmp_path, source):
    with pytest.raises(BortError, match=r"a\.jsonl\.gz: must be plain text"):
        build_corpus([source, "a.jsonl.gz"], tiny_tokenizer, tmp_path / "c")


@pytest.mark.parametrize("count", [0, -1])
def test_too_few_processes(tiny_tokenizer, tmp_path, source, count):
    with pytest.raises(BortError, match=r"--corpus-processes: value .*: must be at least 1"):
        build_corpus([source], tiny_tokenizer, tmp_path / "c", processes=count)


def test_hub_data_sets_stream_and_go_on(tiny_tokenizer, tmp_path, sentences, small, monkeypatch):
    """What the hub would send comes from a generator that breaks off once."""
    datasets = pytest.importorskip("datasets")
    texts = [f"{first}\n\n{second}" for first, second in itertools.pairwise(sentences)]
    asked, broken = [], [True]

    def rows():
        for number, text in enumerate(texts):
            if number == 150 and broken:
                broken.clear()
                raise ConnectionError("the line went dead")
            yield {"text": text}

    def load_dataset(name, config, *, split, streaming):
        asked.append((name, config, split, streaming))
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(builder, "COMMIT_SECONDS", 0.0)
    with pytest.raises(Interrupted, match="owner/name@en:train: the data set cannot be loaded from the hub"):
        build_corpus(["owner/name@en:train"], tiny_tokenizer, tmp_path / "c", valid_share=0.1)
    seen = []
    corpus = build_corpus(
        ["owner/name@en:train"], tiny_tokenizer, tmp_path / "c", valid_share=0.1, progress=lambda *n: seen.append(n)
    )
    assert asked == [("owner/name", "en", "train", True)] * 2
    assert seen[0][1] > 3000
    expected = [ids for text in texts for ids in _ids(tiny_tokenizer, text)]
    assert corpus.info.train_tokens + corpus.info.valid_tokens == len(expected)
    assert corpus.info.train_documents + corpus.info.valid_documents == len(texts)
    first = _ids(tiny_tokenizer, texts[0])
    assert corpus.tokens("train")[: len(first)].tolist() == first


def _ids(tokenizer, text: str) -> list[int]:
    lines = tokenizer(text.split("\n\n"), add_special_tokens=False).input_ids
    return [number for ids in lines for number in ids] + [tokenizer.sep_token_id]


def test_blocks_do_not_depend_on_where_reading_began(source, small):
    found = list(read_blocks(source, Place()))
    assert b"".join(block.text for block in found) == Path(source).read_bytes()
    for before, after in itertools.pairwise(found[:6]):
        assert next(read_blocks(source, before.after)) == after
    assert [block.first for block in found[1:]] == [block.after.line for block in found[:-1]]


MEMORY = """
import resource, sys
from bort.data.corpus.build import build_corpus
from bort.model.tokenization import load_tokenizer
folder, tokenizer = sys.argv[1], load_tokenizer(sys.argv[1] + "/t")
for name in ("small", "large"):
    build_corpus([f"{folder}/{name}.txt"], tokenizer, f"{folder}/{name}", valid_share=0.01)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tiny_tokenizer, python, tmp_path, sentences):
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    text = "\n\n".join(sentences) + "\n\n"
    for name, megabytes in (("small", 2), ("large", 16)):
        (tmp_path / f"{name}.txt").write_text(text * (megabytes * 2**20 // len(text)), "utf-8")
    small, large = map(int, python(MEMORY, str(tmp_path)).stdout.split())
    assert open_corpus(tmp_path / "large").info.train_tokens > 3_000_000
    assert large - small < 8 * 1024  # KiB: half of the text, and less than its ids
