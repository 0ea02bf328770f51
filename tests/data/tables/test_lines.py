"""Lines come out as they went in, whatever the packing; what is damaged is refused with its line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.data.tables import lines as lines_module
from bort.data.tables.compressed import open_binary
from bort.data.tables.lines import read_all_lines, read_lines, total_bytes
from bort.errors import BortError


def zst(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor().compress(content)


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".bz2": bz2.compress,
    ".zst": zst,
}
PACKINGS = [name for name in PACKERS if name]


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pack(folder: Path, packing: str, content: bytes) -> Path:
    return write(folder, f"a.txt{packing}", PACKERS[packing.lower()](content))


def noise(size: int) -> bytes:
    """Lines that do not compress well."""
    return random.Random(0).randbytes(size // 2).hex("\n", 20).encode()


@pytest.mark.parametrize("packing", [*PACKERS, ".GZ"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_packings(tmp_path, packing, mark):
    path = pack(tmp_path, packing, mark + "één\r\n\ntwo\ufeff\nlast".encode())
    assert list(read_lines(path)) == list(read_lines(str(path))) == ["één", "", "two\ufeff", "last"]
    with open_binary(path) as plain:
        assert plain.read().startswith(mark + "één".encode())


@pytest.mark.parametrize("packing", PACKINGS)
def test_archives_of_several_parts(tmp_path, packing):
    packer = PACKERS[packing]
    path = write(tmp_path, f"a.txt{packing}", packer(b"one\ntw") + packer(b"o\n") + packer(b"three"))
    assert list(read_lines(path)) == ["one", "two", "three"]


@settings(max_examples=100)
@given(
    st.lists(st.text().map(lambda text: text.replace("\n", "").rstrip("\r")), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_other_character_is_kept(tmp_path_factory, texts, end):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(("\ufeff" + "".join(text + end for text in texts)).encode())
    assert list(read_lines(path)) == texts


def test_control_characters(tmp_path):
    path = write(tmp_path, "a.txt", "a\0b\n\x0b\x0c\x1c\u2028c\x85\n\rd\r\r\n")
    assert list(read_lines(path)) == ["a\0b", "\x0b\x0c\x1c\u2028c\x85", "\rd\r"]


@pytest.mark.parametrize("packing", PACKERS)
def test_long_lines(tmp_path, packing):
    lines = ["é" * 2**20, "short", "ab" * 2**20]
    assert list(read_lines(pack(tmp_path, packing, "\n".join(lines).encode()))) == lines


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST_ROW_BYTES", 100)
    lines = read_lines(write(tmp_path, "a.txt", "a" * 99 + "\n" + "b" * 101))
    assert next(lines) == "a" * 99
    with pytest.raises(BortError, match=r"a\.txt:2: .* must be no longer than 100 bytes$"):
        next(lines)


@pytest.mark.parametrize("packing", PACKERS)
def test_reading_is_lazy_and_tells_how_far_it_is(tmp_path, packing, monkeypatch):
    monkeypatch.setattr("bort.data.tables.lines._CHARACTERS_BETWEEN_REPORTS", 10_000)
    content = noise(3_000_000)
    path = pack(tmp_path, packing, content)
    seen: list[int] = []
    lines = read_lines(path, on_bytes=seen.append)
    while not seen:
        next(lines)
    assert 0 < seen[0] < path.stat().st_size / 2
    assert sum(map(len, lines)) > 2_800_000
    assert len(seen) > 100
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size == total_bytes([str(path)])


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_truncated_archive(tmp_path, packing):
    path = pack(tmp_path, packing, noise(2_000_000))
    path.write_bytes(path.read_bytes()[:-8])
    read: list[str] = []
    with pytest.raises(BortError) as caught:
        read.extend(read_lines(path))
    # What came before the damage is there, and the message names the line behind it.
    assert len(read) > 1000
    assert str(caught.value).startswith(f"{path}:{len(read) + 1}: the data is damaged and cannot be read from here on")


@pytest.mark.parametrize("packing", PACKINGS)
def test_no_archive(tmp_path, packing):
    PACKERS[packing](b"")  # skips without the package
    path = write(tmp_path, f"a{packing}", b"no archive at all")
    with pytest.raises(BortError, match=":1: the data is damaged"):
        list(read_lines(path))


def test_a_zst_with_a_large_window_is_not_called_damaged(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=28, format=zstandard.FORMAT_ZSTD1)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of a stream, as zstd --long=28
    content = packed.compress(b"a\n") + packed.flush()
    with pytest.raises(BortError, match=r"a\.zst: its window is too large .* with --long=27"):
        next(read_lines(write(tmp_path, "a.zst", content)))


def test_zst_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BortError, match=r"needs the package zstandard: pip install 'bort\[zst\]'"):
        next(read_lines(write(tmp_path, "a.zst", b"")))


@pytest.mark.parametrize("packing", PACKERS)
def test_invalid_utf8_names_its_line(tmp_path, packing):
    lines = read_lines(pack(tmp_path, packing, b"one\ntwo\nab\xffc\nfour\n"))
    assert [next(lines), next(lines)] == ["one", "two"]
    with pytest.raises(BortError, match=r":3: must be UTF-8; byte 3 of the line, 0xff, is not"):
        next(lines)


def test_utf16_is_recognised(tmp_path):
    with pytest.raises(BortError, match=":1: must be UTF-8; this looks like UTF-16"):
        list(read_lines(write(tmp_path, "a.txt", "text\n".encode("utf-16"))))


def test_what_is_no_file(tmp_path):
    assert list(read_lines(write(tmp_path, "empty.txt", b""))) == []
    for path, rule in {tmp_path: "is a folder; name a file", tmp_path / "absent.gz": "no such file"}.items():
        with pytest.raises(BortError) as caught:
            list(read_lines(path))
        assert str(caught.value) == f"{path}: {rule}"
    with pytest.raises(BortError, match="absent: no such file"):
        total_bytes([str(tmp_path / "empty.txt"), str(tmp_path / "absent")])


def test_several_files_tell_their_bytes_together(tmp_path):
    paths = [pack(tmp_path, ".gz", b"one\ntwo\n"), write(tmp_path, "empty.txt", ""), write(tmp_path, "b.txt", "three")]
    seen: list[int] = []
    assert list(read_all_lines(paths, on_bytes=seen.append)) == ["one", "two", "three"]
    packed = paths[0].stat().st_size
    assert seen == [packed, packed, packed + 5]


def test_total_bytes(tmp_path):
    paths = [str(write(tmp_path, f"{size}.txt", b"x" * size)) for size in (0, 5, 1000)]
    assert total_bytes(paths) == 1005
