"""The `.params` reader: what MXNet wrote reads back bit for bit, and nothing else gets further than a BortError."""

from __future__ import annotations

import itertools
import json
import os
import struct
import time
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from bort.errors import BortError
from bort.model.convert.mxnet import DTYPES, MAGIC, MAX_ARRAYS, MAX_NAME_BYTES, read_params
from params_file import write_params

GOLDEN = Path(__file__).parent / "golden"
"""Checkpoints of the original code, and what it computed with them."""
QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda name: not name.startswith(("arg:", "aux:"))
)


def some_arrays(min_dims: int, min_side: int):
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=8, min_side=min_side, max_side=3)
    arrays = st.sampled_from(list(DTYPES.values())).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
    return st.dictionaries(names, arrays, max_size=4)


def block(
    shape=(2, 2), *, magic=MAGIC[2], storage=0, ndim=None, device=(1, 0), code=0, data: bytes | None = None
) -> bytes:
    """One array as bytes, every field of which can be made wrong."""
    head = struct.pack("<I", magic) + (b"" if storage is None else struct.pack("<i", storage))
    head += struct.pack("<I", len(shape) if ndim is None else ndim) + struct.pack(f"<{len(shape)}q", *shape)
    return head + struct.pack("<iii", *device, code) + (bytes(16) if data is None else data)


def assemble(
    *blocks: bytes, names=(b"a",), magic=0x112, reserved=0, count=None, named=None, tail: bytes = b""
) -> bytes:
    records = b"".join(struct.pack("<Q", len(name)) + name for name in names)
    return (
        struct.pack("<QQQ", magic, reserved, len(blocks) if count is None else count)
        + b"".join(blocks)
        + struct.pack("<Q", len(names) if named is None else named)
        + records
        + tail
    )


def read_or_refuse(path: Path, data: bytes) -> dict[str, np.ndarray] | None:
    path.write_bytes(data)
    try:
        return read_params(path)
    except BortError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


@pytest.mark.parametrize("kind", ["mlm", "cls"])
def test_a_file_of_the_original_code_comes_back_byte_for_byte(kind, tmp_path):
    original = GOLDEN / f"gluon-tiny.{kind}.params"
    arrays = read_params(original)
    write_params(tmp_path / "copy.params", arrays)
    assert (tmp_path / "copy.params").read_bytes() == original.read_bytes()
    shape = json.loads((GOLDEN / "gluon-tiny.json").read_text())
    words = arrays["word_embed.0.weight" if kind == "mlm" else "bort.word_embed.0.weight"]
    assert words.shape == (shape["vocab_size"], shape["hidden_size"])
    assert words.dtype == np.float32


@QUICK
@given(arrays=some_arrays(1, 1), version=st.sampled_from([1, 2, 3]))
def test_round_trip(arrays, version, tmp_path):
    write_params(tmp_path / "x.params", arrays, version=version)
    assert_same(read_params(tmp_path / "x.params"), arrays)


@QUICK
@given(arrays=some_arrays(0, 0))
def test_round_trip_of_scalars_and_empty_arrays(arrays, tmp_path):
    write_params(tmp_path / "x.params", arrays, version=3)
    assert_same(read_params(tmp_path / "x.params"), arrays)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_prefixes_of_symbol_checkpoints_are_taken_off(tmp_path):
    write_params(tmp_path / "x.params", {"arg:w": np.ones(2, "f4"), "aux:m": np.zeros(1, "f4"), "b": np.ones(1, "f4")})
    assert list(read_params(tmp_path / "x.params")) == ["w", "m", "b"]


def test_reads_arrays_saved_from_a_gpu_and_an_empty_list(tmp_path):
    assert read_or_refuse(tmp_path / "x", assemble(block(device=(2, 3)))) is not None
    assert read_or_refuse(tmp_path / "x", assemble(names=())) == {}


BROKEN = {
    "empty file": (b"", "ends inside the file header"),
    "another format": (b"PK\x03\x04" + bytes(60), "0x112"),
    "list magic": (assemble(block(), magic=0x113), "0x112"),
    "reserved": (assemble(block(), reserved=1), "must be 0"),
    "more arrays than bytes": (assemble(block(), count=2**63), "count of arrays"),
    "more arrays than allowed": (assemble(block(), count=MAX_ARRAYS + 1, tail=bytes(2**21)), "count of arrays"),
    "array magic": (assemble(block(magic=0xF993FAC0)), "array 0 must begin with"),
    "oldest layout": (assemble(struct.pack("<IIIiii", 2, 2, 2, 1, 0, 0) + bytes(16)), "oldest layout"),
    "storage type in V1": (assemble(block(magic=MAGIC[1], storage=0)), "array 0"),
    "sparse rows": (assemble(block(storage=1)), "densely"),
    "undefined storage": (assemble(block(storage=-1)), "densely"),
    "many dimensions": (assemble(block((1,) * 9)), "at most 8 dimensions"),
    "unknown number of dimensions": (assemble(block(ndim=0xFFFFFFFF)), "at most 8 dimensions"),
    "no shape": (assemble(block((), data=b"")), "never initialised"),
    "no shape in V1": (assemble(block((), magic=MAGIC[1], storage=None, data=b"")), "never initialised"),
    "zero dimension in V2": (assemble(block((0, 4), data=b"")), "at least 1"),
    "negative dimension": (assemble(block((-4, 1))), "at least 1"),
    "two negative dimensions": (assemble(block((-2, -2))), "at least 1"),
    "unknown dimension in V3": (assemble(block((-1,), magic=MAGIC[3])), "at least 0"),
    "product beyond 64 bits": (assemble(block((2**32, 2**32))), "must fit"),
    "product that wraps to 4": (assemble(block((2**62 + 1, 4))), "must fit"),
    "large dimension": (assemble(block((2**40,))), "must fit"),
    "a zero beside a huge dimension": (assemble(block((0, 2**62), magic=MAGIC[3], data=b"")), "too large"),
    "one number too many": (assemble(block((1, 13))), "must fit"),
    "device": (assemble(block(device=(9, 0))), "known device"),
    "device number": (assemble(block(device=(1, -1))), "known device"),
    "type code": (assemble(block(code=7)), "type code"),
    "negative type code": (assemble(block(code=-1)), "type code"),
    "no names": (assemble(block(), names=()), "must name each"),
    "too many names": (assemble(block(), names=(b"a", b"b")), "must name each"),
    "more names than bytes": (assemble(block(), named=2**60), "count of names"),
    "long name": (assemble(block(), names=(b"a" * (MAX_NAME_BYTES + 1),)), "at most 4096 bytes"),
    "name beyond the end": (assemble(block(), names=())[:-8] + struct.pack("<QQ", 1, 400) + b"a", "ends inside a name"),
    "name not UTF-8": (assemble(block(), names=(b"\xff\xfe",)), "UTF-8"),
    "name with half a surrogate": (assemble(block(), names=(b"\xed\xa0\x80",)), "UTF-8"),
    "same name twice": (assemble(block(), block(), names=(b"a", b"a")), "must differ"),
    "same name behind prefixes": (assemble(block(), block(), names=(b"arg:a", b"aux:a")), "must differ"),
    "bytes after the end": (assemble(block(), tail=b"\0"), "must end"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_refuses(what, tmp_path):
    data, rule = BROKEN[what]
    path = tmp_path / "broken.params"
    path.write_bytes(data)
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(BortError) as caught:
        read_params(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rule in str(caught.value)
    assert str(path) in str(caught.value)
    assert peak_bytes < 2**20
    assert time.perf_counter() - started < 1


def test_a_broken_end_is_found_before_anything_is_loaded(tmp_path):
    path = tmp_path / "large.params"
    write_params(path, {"w": np.zeros((1024, 8192), np.float32)})  # 32 MiB
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 1)
    tracemalloc.start()
    with pytest.raises(BortError, match="ends inside a name"):
        read_params(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**20


def sample() -> bytes:
    """Three arrays of the three versions, whose every byte the next tests damage."""
    blocks = (
        block((2, 2)),
        block((3,), magic=MAGIC[1], storage=None, code=2, data=bytes(range(6))),
        block((), magic=MAGIC[3], code=6, data=bytes(8)),
    )
    return assemble(*blocks, names=(b"a.weight", "übel".encode(), b"arg:c"))


def test_every_truncation_is_refused(tmp_path):
    whole = sample()
    assert read_or_refuse(tmp_path / "x", whole) is not None
    for length in range(len(whole)):
        assert read_or_refuse(tmp_path / "x", whole[:length]) is None, f"{length} bytes"


def test_every_flipped_byte_is_refused_or_read(tmp_path):
    whole = sample()
    tracemalloc.start()
    for position, flip in itertools.product(range(len(whole)), (0x01, 0x80, 0xFF)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        found = read_or_refuse(tmp_path / "x", bytes(damaged))
        assert found is None or len(found) == 3
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**22


@settings(QUICK, max_examples=400)
@given(data=st.data())
def test_fuzz(data, tmp_path):
    damaged = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = start + data.draw(st.integers(0, 16))
        damaged[start:stop] = data.draw(
            st.binary(max_size=16) | st.sampled_from([b"\xff" * 8, bytes(8), struct.pack("<q", 2**62), b"\xff" * 4])
        )
    found = read_or_refuse(tmp_path / "x", bytes(damaged))
    assert found is None or sum(array.nbytes for array in found.values()) <= len(damaged)


def test_refuses_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent", "nul\0byte"):
        with pytest.raises(BortError):
            read_params(path)
    os.mkfifo(tmp_path / "pipe")  # reading one would wait for ever
    with pytest.raises(BortError, match="must be a file"):
        read_params(tmp_path / "pipe")


def test_refuses_a_file_above_the_limit(tmp_path):
    path = tmp_path / "x.params"
    write_params(path, {"w": np.zeros(100, np.float32)})
    with pytest.raises(BortError, match="at most 64 bytes"):
        read_params(path, limit_bytes=64)
