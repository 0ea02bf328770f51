"""Pack what a GPU machine without network needs to train bort-nano: texts, pairs, vocabulary and teacher, in one file.

    python -m benchmarks.gpu.pack --texts build/nano/texts --teacher MINILM --out build/nano.tar.xz

The teacher is cut to the words of the texts and stands in bf16, which is what it computes in. So it takes 25 MB, and
the texts fill what remains of `--mib`: 32, because the checkout itself has 31 MiB and both should fit into 64. The last
texts are taken: they are in random order, and those that training holds out are among them.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertModel

from benchmarks.common import commit
from benchmarks.nano.rows import Rows
from bort.errors import BortError
from bort.files import write_aside
from bort.model.checkpoints import quiet
from bort.model.shrink import shrink

STEMS = ("singles", "pairs.a", "pairs.b")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_SAMPLE = 50_000
# Numbers of two bytes: high ones are like other high ones.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]


@dataclass(frozen=True)
class Packed:
    """What an archive holds: its size, and how much of the texts."""

    size_bytes: int
    texts: int
    pairs: int
    tokens: int


def pack(texts: Path, teacher: Path, out: Path, limit_bytes: int) -> Packed:
    """Write the archive.

    Args:
        texts: Folder that `benchmarks.nano.prepare` wrote.
        teacher: Folder of the teacher.
        out: The archive.
        limit_bytes: Its size at most.

    Raises:
        BortError: Not even the teacher fits, or a text has over 255 tokens.
    """
    rows = {stem: Rows.open(texts / stem) for stem in STEMS}
    for stem in STEMS:
        if rows[stem].lengths.max(initial=0) > 255:
            raise BortError("must hold no text of over 255 tokens", file=texts / f"{stem}.ids.npy")
    with tempfile.TemporaryDirectory() as folder:
        fixed = _fixed(texts, teacher, Path(folder))
    fixed_bytes = len(_compressed(fixed))
    sample = {stem: min(_SAMPLE, len(rows[stem])) for stem in STEMS}
    per_row = {stem: len(_compressed(_last(rows[stem], stem, sample[stem]))) / sample[stem] for stem in STEMS}
    share = min(1.0, (limit_bytes - fixed_bytes) / sum(per_row[stem] * len(rows[stem]) for stem in STEMS))
    while min((taken := {stem: int(share * len(rows[stem])) for stem in STEMS}).values()) > 0:
        members = dict(fixed)
        for stem in STEMS:
            members |= _last(rows[stem], stem, taken[stem])
        members["manifest.json"] = json.dumps({"commit": commit(), **taken}).encode()
        if len(made := _compressed(members)) <= limit_bytes:
            with write_aside(out, "wb") as file:
                file.write(made)
            tokens = sum(int(rows[stem].lengths[-taken[stem] :].sum()) for stem in STEMS)
            return Packed(len(made), taken["singles"], taken["pairs.a"], tokens)
        share *= 0.99 * (limit_bytes - fixed_bytes) / (len(made) - fixed_bytes)
    rule = f"must be over {fixed_bytes / 2**20:.1f} MiB, which teacher and vocabulary take"
    raise BortError(rule, setting="mib", value=limit_bytes / 2**20)


def unpack(archive: Path, folder: Path) -> str:
    """Make the folders `texts` and `teacher` of an archive, as `benchmarks.nano.train` reads them, if not there yet.

    Returns:
        The commit that the archive was made at; empty where it was made outside of a repository.
    """
    texts = folder / "texts"
    if not (texts / "kept.npy").exists():
        with tarfile.open(archive, "r:xz") as tar:
            tar.extractall(folder, filter="data")
        for stem in STEMS:
            lengths = np.load(texts / f"{stem}.lengths.npy")
            np.save(texts / f"{stem}.starts.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        vocabulary = json.loads((folder / "teacher" / "config.json").read_text("utf-8"))["vocab_size"]
        with write_aside(texts / "kept.npy", "wb") as file:
            np.save(file, np.arange(vocabulary))
    packed_at: str = json.loads((folder / "manifest.json").read_text("utf-8"))["commit"]
    return packed_at


def _fixed(texts: Path, teacher: Path, folder: Path) -> dict[str, bytes]:
    """The teacher, cut to the texts' words, and the tokenizer."""
    with quiet():
        whole = BertModel.from_pretrained(teacher, dtype=torch.float32)
        shrink(whole, kept=np.load(texts / "kept.npy")).to(torch.bfloat16).save_pretrained(folder)
    files = {f"teacher/{name}": folder / name for name in ("config.json", "model.safetensors")}
    files |= {f"texts/{name}": texts / name for name in _TOKENIZER}
    return {name: file.read_bytes() for name, file in files.items()}


def _last(rows: Rows, stem: str, count: int) -> dict[str, bytes]:
    """The last texts as files of ids and of lengths."""
    first = len(rows) - count
    ids, lengths = rows.ids[rows.starts[first] :], rows.lengths[first:].astype(np.uint8)
    return {f"texts/{stem}.ids.npy": _npy(ids), f"texts/{stem}.lengths.npy": _npy(lengths)}


def _npy(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()


def _compressed(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with lzma.open(made, "wb", filters=_FILTERS) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for name, content in members.items():
            described = tarfile.TarInfo(name)
            described.size = len(content)
            tar.addfile(described, io.BytesIO(content))
    return made.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="folder that benchmarks.nano.prepare wrote")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True, help="the archive")
    parser.add_argument("--mib", type=float, default=32.0, help="its size at most")
    told = parser.parse_args()
    made = pack(told.texts, told.teacher, told.out, int(told.mib * 2**20))
    print(
        f"{told.out}: {made.size_bytes / 2**20:.1f} MiB, {made.texts:,} texts and {made.pairs:,} pairs, "
        f"{made.tokens:,} tokens"
    )


if __name__ == "__main__":
    main()
